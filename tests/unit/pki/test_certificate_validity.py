"""The dates of certificates: what is wrong now, and what is to be renewed."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from harness.authority import Authority, pem

from gateway.pki import initial_certificates
from gateway.pki.certificate_validity import Certificate, faults_and_warnings, in_use
from gateway.pki.ecdsa_and_rsa_choice import KeyType, rsa_twin
from gateway.pki.initial_certificates import ensure_server_certificate

DAY = 86_400


@pytest.fixture
def server(tmp_path):
    ensure_server_certificate(tmp_path / "server.crt", tmp_path / "server.key")
    return tmp_path / "server.crt"


def one(start, end, *, path="x.crt", of_many=False):
    return Certificate("server", path, start * DAY, end * DAY, of_many)


ROOT, MIDDLE, LEAF = Authority("Root"), Authority("Middle, of ours"), Authority("gw.example")
EXPIRED, NOT_YET, ENDING = (-90, -1), (1, 90), (-90, 2)


@pytest.mark.parametrize(
    ("lives", "named"),
    [
        ((EXPIRED, (-1, 90), (-1, 90)), 'server certificate "CN=gw.example" (number 1 of 3) has expired'),
        (((-1, 90), EXPIRED, (-1, 90)), r'intermediate CA "CN=Middle\, of ours" (number 2 of 3) has expired'),
        (
            ((-1, 90), NOT_YET, (-1, 90)),
            r'intermediate CA "CN=Middle\, of ours" (number 2 of 3) is not',
        ),
        (((-1, 90), (-1, 90), EXPIRED), 'root CA "CN=Root" (number 3 of 3) has expired'),
    ],
    ids=range(4),
)
@pytest.mark.parametrize("twin", [False, True], ids=["server", "RSA"])
def test_of_several_in_a_file_the_one_is_named_that_is_not_good_a_chain(tmp_path, lives, named, twin):
    server = tmp_path / "server.crt"
    path = rsa_twin(server) if twin else server
    pem(
        path,
        LEAF.certificate(MIDDLE, life=lives[0]),
        MIDDLE.certificate(ROOT, life=lives[1]),
        ROOT.certificate(life=lives[2]),
    )
    (fault,), warnings = faults_and_warnings(in_use(server, None, None), time.time())
    assert fault.startswith(f"{path}: {named}")
    assert warnings == []


@pytest.mark.parametrize("name", ["client_ca", "bus_ca"])
def test_of_several_in_a_file_the_one_is_named_that_is_not_good_a_bundle_of_cas(tmp_path, name):
    path = pem(tmp_path / "cas.crt", ROOT.certificate(), MIDDLE.certificate(life=EXPIRED))
    found = in_use(None, path if name == "client_ca" else None, path if name == "bus_ca" else None)
    assert {each.name for each in found} == {name}
    faults, (warning,) = faults_and_warnings(found, time.time())
    assert faults == []
    assert warning.startswith(rf'{path}: CA "CN=Middle\, of ours" (number 2 of 2) has expired')
    assert warning.endswith("; others in this file are good")
    pem(path, ROOT.certificate(life=NOT_YET), MIDDLE.certificate(life=EXPIRED))
    assert len(faults_and_warnings(in_use(None, path, None), time.time())[0]) == 2


def test_of_several_in_a_file_each_is_warned_of(tmp_path):
    server = pem(
        tmp_path / "server.crt",
        LEAF.certificate(MIDDLE, life=ENDING),
        MIDDLE.certificate(ROOT, life=ENDING),
    )
    faults, warnings = faults_and_warnings(in_use(server, None, None), time.time())
    assert faults == []
    assert [warning.partition(" expires in ")[0] for warning in warnings] == [
        f'{server}: server certificate "CN=gw.example" (number 1 of 2)',
        rf'{server}: intermediate CA "CN=Middle\, of ours" (number 2 of 2)',
    ]


def test_of_several_in_a_file_only_the_cas_that_issued_the_chain_count(tmp_path):
    """Who changes his CA leaves the old one beside the new one for those that still need it."""
    server = pem(tmp_path / "server.crt", LEAF.certificate(ROOT))
    pem(tmp_path / "ca.crt", ROOT.certificate(), MIDDLE.certificate(life=EXPIRED))
    found = in_use(server, None, None)
    assert [each.name for each in found] == ["server", "ca"]
    assert faults_and_warnings(found, time.time()) == ([], [])


def test_a_subject_of_any_length_or_none_is_shown(tmp_path):
    nobody = Authority("x" * 64)
    nobody.name = x509.Name([])
    many = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "y" * 60)] * 50
    long = Authority("x")
    long.name = x509.Name(many)
    server = pem(
        tmp_path / "server.crt",
        nobody.certificate(long, life=EXPIRED),
        long.certificate(ROOT, life=EXPIRED),
    )
    first, second = faults_and_warnings(in_use(server, None, None), time.time())[0]
    assert '"without a name" (number 1' in first
    assert len(second) < len(str(server)) + 300


@pytest.mark.parametrize(
    ("day", "faults", "warnings"),
    [(-1, 1, 0), (0, 0, 0), (59, 0, 0), (60, 0, 1), (89, 0, 1), (90, 1, 0), (400, 1, 0)],
)
def test_a_life_of_90_days(day, faults, warnings):
    found = faults_and_warnings([one(0, 90)], day * DAY)
    assert (len(found[0]), len(found[1])) == (faults, warnings)


def test_the_words():
    assert faults_and_warnings([one(0, 90)], 91 * DAY)[0] == [
        "x.crt has expired (1970-04-01T00:00:00Z): put a new one in its place"
    ]
    assert faults_and_warnings([one(2, 90)], 0)[0] == [
        "x.crt is not valid before 1970-01-03T00:00:00Z: is this machine's clock right?"
    ]
    assert faults_and_warnings([one(0, 90)], 89 * DAY)[1] == [
        "x.crt expires in 1 day (1970-04-01T00:00:00Z): renew it"
    ]


def test_of_a_bundle_one_good_ca_will_do():
    old, new = one(0, 90, of_many=True), one(80, 900, of_many=True)
    assert faults_and_warnings([old, new], 100 * DAY)[0] == []
    assert faults_and_warnings([old, new], 100 * DAY)[1][0].endswith("; others in this file are good")
    assert len(faults_and_warnings([old, new], 1_000 * DAY)[0]) == 2


def test_what_is_in_use(server, tmp_path):
    ensure_server_certificate(tmp_path / "o/server.crt", tmp_path / "o/server.key")
    found = in_use(server, server.with_name("ca.crt"), tmp_path / "absent")
    assert [(item.name, item.path.name) for item in found] == [
        ("server", "server.crt"),
        ("ca", "ca.crt"),
        ("client_ca", "ca.crt"),
    ]
    # The CA of another certificate, left in the folder, is of no concern.
    (tmp_path / "o/ca.crt").replace(server.with_name("ca.crt"))
    assert [item.name for item in in_use(server, None, None)] == ["server"]
    assert in_use(None, None, None) == []


def test_the_second_pair_counts_too(tmp_path):
    server = tmp_path / "server.crt"
    ensure_server_certificate(server, tmp_path / "server.key", key_type=KeyType.BOTH)
    assert [item.path.name for item in in_use(server, None, None)] == [
        "server.crt",
        "ca.crt",
        rsa_twin(server).name,
        "ca-rsa.crt",
    ]


def test_dates_of_real_certificates(tmp_path, monkeypatch):
    monkeypatch.setattr(initial_certificates, "_SKEW", timedelta(days=3))
    monkeypatch.setattr(initial_certificates, "_SERVER_DAYS", 2)
    server = tmp_path / "server.crt"
    ensure_server_certificate(server, tmp_path / "server.key")
    (fault,), warnings = faults_and_warnings(in_use(server, None, None), time.time())
    assert fault.startswith(f"{server} has expired")
    assert warnings == []
