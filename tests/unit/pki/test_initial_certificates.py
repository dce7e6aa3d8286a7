"""The small CA: what strict verifiers accept, and what is never touched."""

from __future__ import annotations

import fcntl
import os
import ssl
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from gateway.pki.initial_certificates import PkiError, ensure_server_certificate
from gateway.system.atomic_files import locked


class Folder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.server, self.key = path / "server.crt", path / "server.key"
        self.ca, self.ca_key = path / "ca.crt", path / "ca.key"

    def ensure(self, *names: str) -> list[str]:
        return [made.name for made in ensure_server_certificate(self.server, self.key, names=names)]

    def contents(self) -> dict[str, bytes]:
        return {entry.name: entry.read_bytes() for entry in self.path.iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "certs")


def handshake(folder: Folder, host: str) -> None:
    """A whole TLS handshake in memory, with the flags that Python 3.13 sets by default."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(folder.server, folder.key)
    client = ssl.create_default_context(cafile=folder.ca)
    client.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    done = 0
    for _ in range(10):
        for side in sides[:]:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            sides.remove(side)
            done += 1
    assert done == 2


def test_everything_is_made_once(folder):
    assert folder.ensure() == ["ca.crt", "ca.key", "server.crt", "server.key"]
    before = folder.contents()
    assert sorted(before) == ["ca.crt", "ca.key", "server.crt", "server.key"], "nothing else is left"
    assert folder.ensure() == []
    assert folder.contents() == before


def test_keys_are_ours_alone_and_certificates_for_all(folder):
    before = os.umask(0o077)
    try:
        folder.ensure()
    finally:
        os.umask(before)
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in folder.path.iterdir()}
    assert modes == {"ca.crt": 0o644, "ca.key": 0o600, "server.crt": 0o644, "server.key": 0o600}


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "::1", "gateway.example.org", "10.1.2.3", "a.dev.test"]
)
def test_strict_clients_trust_it(folder, host):
    folder.ensure("Gateway.example.org", "10.1.2.3", "*.dev.test")
    handshake(folder, host)


def test_it_is_good_for_this_hosts_name(folder, monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "Edge-7.example.org")
    folder.ensure()
    handshake(folder, "edge-7.example.org")


def test_a_host_name_that_is_no_dns_name_is_no_obstacle(folder, monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "mein rechner")
    folder.ensure()
    handshake(folder, "localhost")


def test_no_other_name(folder):
    folder.ensure()
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(folder, "elsewhere.example.org")


def test_openssl_accepts_it_strictly_and_for_servers_only(folder):
    folder.ensure()

    def verify(purpose: str) -> int:
        command = [
            "openssl",
            "verify",
            "-x509_strict",
            "-purpose",
            purpose,
            "-CAfile",
            folder.ca,
            folder.server,
        ]
        return subprocess.run(command, check=False, capture_output=True).returncode

    assert verify("sslserver") == 0
    assert verify("sslclient") != 0


def test_what_the_certificates_say(folder):
    folder.ensure()
    ca = x509.load_pem_x509_certificate(folder.ca.read_bytes())
    server = x509.load_pem_x509_certificate(folder.server.read_bytes())
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value) == (True, x509.BasicConstraints(ca=True, path_length=0))
    usage = ca.extensions.get_extension_for_class(x509.KeyUsage)
    assert (usage.critical, usage.value.key_cert_sign, usage.value.crl_sign) == (True, True, True)
    assert not usage.value.digital_signature
    now = datetime.now(UTC)
    assert timedelta(days=3_640) < ca.not_valid_after_utc - now < timedelta(days=3_651)
    assert server.not_valid_after_utc - server.not_valid_before_utc == timedelta(days=825)
    assert server.not_valid_before_utc < now - timedelta(hours=23), "for devices whose clock is late"
    usage = server.extensions.get_extension_for_class(x509.KeyUsage)
    assert (usage.critical, usage.value.digital_signature, usage.value.key_cert_sign) == (True, True, False)
    assert server.public_key().curve.name == "secp256r1"


def test_a_certificate_of_ones_own_needs_no_ca(folder):
    folder.path.mkdir()
    folder.server.write_text("own")
    folder.key.write_text("own")
    assert folder.ensure() == []
    assert sorted(folder.contents()) == ["server.crt", "server.key"]


def test_a_new_server_certificate_comes_from_the_same_ca(folder):
    folder.ensure()
    ca = folder.ca.read_bytes()
    folder.server.unlink()
    folder.key.unlink()
    assert folder.ensure("new.example.org") == ["server.crt", "server.key"]
    assert folder.ca.read_bytes() == ca
    handshake(folder, "new.example.org")


@pytest.mark.parametrize("name", ["server.crt", "server.key", "ca.crt", "ca.key"])
def test_half_a_pair_is_refused_and_left_alone(folder, name):
    folder.ensure()
    if name.startswith("ca"):
        folder.server.unlink()
        folder.key.unlink()
    (folder.path / name).unlink()
    before = folder.contents()
    with pytest.raises(PkiError, match=f"{name}; put the other one back"):
        folder.ensure()
    assert folder.contents() == before


def own_ca(folder: Folder, key, days: int = 10, *, passphrase: bool = False) -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Own CA")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=30))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier(b"chosen by somebody"), critical=False)
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256())
    )
    encryption = BestAvailableEncryption(b"x") if passphrase else NoEncryption()
    folder.path.mkdir(exist_ok=True)
    folder.ca.write_bytes(certificate.public_bytes(Encoding.PEM))
    folder.ca_key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))


RSA = rsa.generate_private_key(65537, 2048)


def test_an_own_ca_signs_and_is_not_outlived(folder):
    own_ca(folder, RSA)
    assert folder.ensure() == ["server.crt", "server.key"]
    handshake_without_strict = ["openssl", "verify", "-CAfile", folder.ca, folder.server]
    assert subprocess.run(handshake_without_strict, check=False, capture_output=True).returncode == 0
    server = x509.load_pem_x509_certificate(folder.server.read_bytes())
    ca = x509.load_pem_x509_certificate(folder.ca.read_bytes())
    assert server.not_valid_after_utc == ca.not_valid_after_utc
    authority = server.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    assert authority.key_identifier == b"chosen by somebody"


def test_a_ca_that_does_not_fit(folder):
    def refused(match: str) -> None:
        before = folder.contents()
        with pytest.raises(PkiError, match=match):
            folder.ensure()
        assert folder.contents() == before

    own_ca(folder, RSA, days=-1)
    refused("has expired")
    own_ca(folder, RSA, passphrase=True)
    refused("without a passphrase")
    own_ca(folder, ed25519.Ed25519PrivateKey.generate())
    refused("is not the key")
    own_ca(folder, RSA)
    folder.ca_key.write_text("-----BEGIN PRIVATE KEY-----\nnonsense")
    refused("cannot be read")
    own_ca(folder, rsa.generate_private_key(65537, 2048))
    other = folder.ca_key.read_bytes()
    own_ca(folder, RSA)
    folder.ca_key.write_bytes(other)
    refused("is not the key")


@pytest.mark.parametrize(
    "name", ["", "a b", "http://x", "x/y", "-a", "a..b", "ü.example", "x" * 64, "1.2.3.4/24"]
)
def test_names_that_are_none(folder, name):
    with pytest.raises(PkiError, match="neither a DNS name nor an IP address"):
        folder.ensure(name)
    assert not any(folder.path.iterdir())


def test_what_a_killed_start_left_is_no_obstacle(folder):
    folder.path.mkdir()
    (folder.path / ".server.key.new").write_text("half")
    folder.ensure()
    handshake(folder, "localhost")
    assert len(folder.contents()) == 4


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PkiError, match="cannot be made"):
        Folder(tmp_path / "file" / "certs").ensure()


def test_two_first_starts_at_once_make_one_set(folder):
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: folder.ensure(), range(4)))
    assert sorted(map(len, made)) == [0, 0, 0, 4]
    handshake(folder, "localhost")


def test_a_stranger_s_lock_on_the_folder_does_not_stop_the_start(folder):
    """Anybody may read `certs/`, and who may read a folder may lock it."""
    folder.path.mkdir(mode=0o755)
    strangers = os.open(folder.path, os.O_RDONLY)
    try:
        fcntl.flock(strangers, fcntl.LOCK_EX)
        assert len(folder.ensure()) == 4
    finally:
        os.close(strangers)


def test_nothing_is_locked_or_written_when_all_is_there(folder):
    """The folder may be mounted read-only, with certificates made elsewhere."""
    folder.ensure()
    with locked(folder.path):
        assert folder.ensure() == []


@pytest.mark.parametrize("half", ["server.crt", "server.key"])
def test_where_nothing_can_be_locked_a_half_is_told_all_the_same(folder, half):
    """The folder may be mounted read-only, and the key forgotten."""
    (folder.path / ".gateway.lock").mkdir(parents=True)
    (folder.path / half).write_text("")
    with pytest.raises(PkiError, match="half there"):
        folder.ensure()
