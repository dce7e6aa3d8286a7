"""The dates of certificates: what is wrong now, and what is to be renewed."""

from __future__ import annotations

from datetime import timedelta

import pytest

from gateway.pki import authority
from gateway.pki.authority import ensure_server_certificate
from gateway.pki.key_types import KeyType, rsa_twin
from gateway.pki.validity import Certificate, in_use, judged

DAY = 86_400


@pytest.fixture
def server(tmp_path):
    ensure_server_certificate(tmp_path / "server.crt", tmp_path / "server.key")
    return tmp_path / "server.crt"


def one(start, end, *, path="x.crt", of_many=False):
    return Certificate("server", path, start * DAY, end * DAY, of_many)


@pytest.mark.parametrize(
    ("day", "faults", "warnings"),
    [(-1, 1, 0), (0, 0, 0), (59, 0, 0), (60, 0, 1), (89, 0, 1), (90, 1, 0), (400, 1, 0)],
)
def test_a_life_of_90_days(day, faults, warnings):
    found = judged([one(0, 90)], day * DAY)
    assert (len(found[0]), len(found[1])) == (faults, warnings)


def test_the_words():
    assert judged([one(0, 90)], 91 * DAY)[0] == [
        "x.crt has expired (1970-04-01T00:00:00Z): put a new one in its place"
    ]
    assert judged([one(2, 90)], 0)[0] == [
        "x.crt is not valid before 1970-01-03T00:00:00Z: is this machine's clock right?"
    ]
    assert judged([one(0, 90)], 89 * DAY)[1] == ["x.crt expires in 1 day (1970-04-01T00:00:00Z): renew it"]


def test_of_a_bundle_one_good_ca_will_do():
    old, new = one(0, 90, of_many=True), one(80, 900, of_many=True)
    assert judged([old, new], 100 * DAY)[0] == []
    assert judged([old, new], 100 * DAY)[1][0].startswith("one of x.crt has expired")
    assert len(judged([old, new], 1_000 * DAY)[0]) == 2


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
    monkeypatch.setattr(authority, "_SKEW", timedelta(days=3))
    monkeypatch.setattr(authority, "_SERVER_DAYS", 2)
    server = tmp_path / "server.crt"
    ensure_server_certificate(server, tmp_path / "server.key")
    import time

    (fault,), warnings = judged(in_use(server, None, None), time.time())
    assert fault.startswith(f"{server} has expired")
    assert warnings == []
