"""TLS contexts, by real handshakes in memory, and the name in a client certificate."""

from __future__ import annotations

import contextlib
import ssl
import time
from datetime import UTC, datetime

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.net.tls_contexts import bus_context, client_certificate, server_context
from gateway.net.tls_record_counter import TooLittleData
from gateway.pki.ecdsa_and_rsa_choice import KeyType
from gateway.pki.initial_certificates import PkiError, ensure_server_certificate

NOW = time.time_ns() // 1_000_000


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certs")
    ensure_server_certificate(folder / "server.crt", folder / "server.key", names=[])
    return folder


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A CA for devices, in a file."""
    made = trustme.CA()
    made.path = tmp_path_factory.mktemp("authority") / "ca.pem"
    made.cert_pem.write_to_path(made.path)
    return made


def signed(authority, folder, *names, ends=None):
    """A client certificate with these common names, as a file to load: good for years, or until `ends`."""
    key = ec.generate_private_key(ec.SECP256R1())
    root = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    root_key = serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in names]))
        .issuer_name(root.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(root.not_valid_before_utc)
        .not_valid_after(ends or root.not_valid_after_utc)
        .sign(root_key, hashes.SHA256())
    )
    path = folder / "client.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return path


def handshake(server_side, client_side, session=None, behind=b""):
    """Both ends of a finished handshake. Raises ssl.SSLError.

    The client may offer a session, and sends what is to be `behind` as soon as it may.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    client = client_side.wrap_bio(to_client, to_server, server_hostname="localhost", session=session)
    waiting = [client, server]
    for _ in range(10):
        for end in waiting[:]:
            try:
                end.do_handshake()
                waiting.remove(end)
                if end is client and behind:
                    client.write(behind)
            except ssl.SSLWantReadError:
                pass
        if not waiting:
            server.outgoing = to_client
            return server, client
    raise AssertionError("the handshake does not end")


def client_of(files, certificate=None, **settings):
    context = ssl.create_default_context(cafile=files / "ca.crt")
    if certificate is not None:
        context.load_cert_chain(certificate)
    for name, value in settings.items():
        setattr(context, name, value)
    return context


def serving(files, authority=None):
    return server_context(files / "server.crt", files / "server.key", authority.path if authority else None)


def test_the_name_of_a_client_certificate(files, authority, tmp_path):
    server, _ = handshake(serving(files, authority), client_of(files, signed(authority, tmp_path, "lamp-1")))
    assert client_certificate(server, NOW) == (
        "lamp-1",
        ssl.cert_time_to_seconds(server.getpeercert()["notAfter"]),
        "",
    )


def test_without_a_certificate_there_is_no_name(files, authority):
    for context in (serving(files), serving(files, authority)):
        server, _ = handshake(context, client_of(files))
        assert client_certificate(server, NOW) is None
    assert client_certificate(None, NOW) is None


@pytest.mark.parametrize("names", [(), ("lamp-1", "lamp-2"), ("lamp-1", "lamp-1")])
def test_a_certificate_with_no_single_name_names_no_device(files, authority, tmp_path, names):
    # Not None: that would say that no certificate was shown, and let a password speak for it.
    server, _ = handshake(serving(files, authority), client_of(files, signed(authority, tmp_path, *names)))
    shown = client_certificate(server, NOW)
    assert (shown.device_id, shown.fault) == ("", "the client certificate has not one common name")


def test_a_certificate_of_another_ca_is_refused(files, authority, tmp_path):
    stranger = trustme.CA()
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(serving(files, authority), client_of(files, signed(stranger, tmp_path, "lamp-1")))


def test_a_certificate_nobody_asked_for_is_not_believed(files, authority, tmp_path):
    server, _ = handshake(serving(files), client_of(files, signed(authority, tmp_path, "lamp-1")))
    assert client_certificate(server, NOW) is None


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_versions(files, version):
    client = client_of(files, minimum_version=version, maximum_version=version)
    server, _ = handshake(serving(files), client)
    assert server.version() == version.name.replace("_", ".")


def test_old_versions_are_refused(files):
    client = client_of(files, maximum_version=ssl.TLSVersion.TLSv1_2)
    client.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        client.minimum_version = client.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        handshake(serving(files), client)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_tickets_are_given(files, version):
    server, client = handshake(serving(files), client_of(files, maximum_version=version))
    server.write(b"x")
    assert client.read() == b"x"  # what TLS 1.3 gives tickets with comes before it
    assert client.session is None or not client.session.has_ticket


def of_tls_1_2(files, certificate=None):
    return client_of(files, certificate, maximum_version=ssl.TLSVersion.TLSv1_2)


def test_a_resumed_session_does_not_outlive_its_certificate(files, authority, tmp_path):
    # OpenSSL verifies nothing when it resumes a session of TLS 1.2 by its id.
    ends = NOW // 1_000 + 3_600
    certificate = signed(authority, tmp_path, "lamp-1", ends=datetime.fromtimestamp(ends, UTC))
    context, device = serving(files, authority), of_tls_1_2(files, certificate)
    server, client = handshake(context, device)
    again, _ = handshake(context, device, client.session)
    assert again.session_reused
    for peer in (server, again):
        assert client_certificate(peer, ends * 1_000 - 1) == ("lamp-1", ends, "")
        assert client_certificate(peer, ends * 1_000) == ("", ends, "the client certificate has ended")


def closed_by_us(server, client):
    """Whether the client is told that by a close_notify, which the server then has of it."""
    with contextlib.suppress(ssl.SSLWantReadError):
        server.unwrap()
    told = client.read() == b"" if server.outgoing.pending else False
    with contextlib.suppress(ssl.SSLWantReadError):
        client.unwrap()
    server.unwrap()  # it has what it waited for
    return told


@pytest.mark.parametrize("names", [(), ("lamp-1",)], ids=["without a certificate", "with one"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_with_a_certificate_ends_with_its_connection(files, authority, tmp_path, version, names):
    # All that the peer sent stays with it: kept, a device could fill the memory with it.
    context = serving(files, authority)
    certificate = signed(authority, tmp_path, *names) if names else None
    server, client = handshake(context, client_of(files, certificate, maximum_version=version))
    forgotten = version is ssl.TLSVersion.TLSv1_2 and bool(names)
    assert context.session_stats()["number"] == (version is ssl.TLSVersion.TLSv1_2)
    assert closed_by_us(server, client) is not forgotten
    del server
    assert context.session_stats()["number"] == (version is ssl.TLSVersion.TLSv1_2 and not forgotten)


def test_what_comes_while_a_connection_with_a_certificate_is_closed_is_bounded(files, authority, tmp_path):
    device = of_tls_1_2(files, signed(authority, tmp_path, "lamp-1"))
    server, client = handshake(serving(files, authority), device)
    for size in (500, 500, 100_000, 500, 100_000, 500):  # what is long is dropped undecrypted
        client.write(b"x" * size)
        with pytest.raises(ssl.SSLWantReadError):
            server.unwrap()
    client.write(b"x" * 100_000)
    with pytest.raises(TooLittleData, match="goes on sending"):
        server.unwrap()


@pytest.mark.parametrize("behind", [0, 100_000], ids=["alone", "with data behind it"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_long_chain_gets_in(files, authority, tmp_path, version, behind):
    shown = signed(authority, tmp_path, "lamp-1")
    stray = authority.path.read_bytes()
    size = len(ssl.PEM_cert_to_DER_cert(authority.path.read_text()))
    shown.write_bytes(shown.read_bytes() + stray * (28_000 // size))
    server, _ = handshake(
        serving(files, authority), client_of(files, shown, maximum_version=version), behind=b"x" * behind
    )
    assert client_certificate(server, NOW).device_id == "lamp-1"


def test_a_new_context_resumes_no_session_of_an_old_one(files, authority, tmp_path):
    # So whatever a change of the files takes away, the CA of devices for instance, is gone at once.
    device = client_of(files, signed(authority, tmp_path, "lamp-1"), maximum_version=ssl.TLSVersion.TLSv1_2)
    _, client = handshake(serving(files, authority), device)
    server, _ = handshake(serving(files, authority), device, client.session)
    assert not server.session_reused


def test_a_key_that_does_not_fit_is_refused(files, tmp_path):
    ensure_server_certificate(tmp_path / "server.crt", tmp_path / "server.key", names=[])
    with pytest.raises(ssl.SSLError):
        server_context(files / "server.crt", tmp_path / "server.key", None)


def test_the_bus_has_to_show_its_name(files, tmp_path):
    handshake(serving(files), bus_context(files / "ca.crt"))
    ensure_server_certificate(tmp_path / "server.crt", tmp_path / "server.key", names=[])
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(serving(tmp_path), bus_context(files / "ca.crt"))
    context = bus_context(files / "ca.crt")
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A server with certificates of both kinds."""
    folder = tmp_path_factory.mktemp("both")
    ensure_server_certificate(folder / "server.crt", folder / "server.key", key_type=KeyType.BOTH)
    return folder


def old_client(folder, authority, ciphers="", version=ssl.TLSVersion.TLSv1_2):
    context = ssl.create_default_context(cafile=str(folder / authority))
    context.maximum_version = version
    if ciphers:
        context.set_ciphers(ciphers)
    return context


@pytest.mark.parametrize(
    ("authority", "ciphers", "kind"),
    [
        ("ca-rsa.crt", "ECDHE-RSA-AES128-GCM-SHA256", "rsa"),
        ("ca.crt", "ECDHE-ECDSA-AES128-GCM-SHA256", "ec"),
        ("ca.crt", "", "ec"),
    ],
    ids=["old", "ECDSA only", "all"],
)
def test_with_both_kinds_of_key_each_client_gets_the_chain_it_can_verify(both, authority, ciphers, kind):
    server = server_context(both / "server.crt", both / "server.key", None)
    _, seen = handshake(server, old_client(both, authority, ciphers))
    certificate = x509.load_der_x509_certificate(seen.getpeercert(binary_form=True))
    assert isinstance(certificate.public_key(), ec.EllipticCurvePublicKey) is (kind == "ec")


def test_rsa_alone(tmp_path):
    ensure_server_certificate(tmp_path / "server.crt", tmp_path / "server.key", key_type=KeyType.RSA)
    server = server_context(tmp_path / "server.crt", tmp_path / "server.key", None)
    handshake(server, old_client(tmp_path, "ca.crt", "ECDHE-RSA-AES128-GCM-SHA256"))
    handshake(server, old_client(tmp_path, "ca.crt", version=ssl.TLSVersion.TLSv1_3))


def test_to_rsa_no_ecdsa_is_added_in_silence(tmp_path):
    pair = tmp_path / "server.crt", tmp_path / "server.key"
    ensure_server_certificate(*pair, key_type=KeyType.RSA)
    with pytest.raises(PkiError, match="has an RSA key"):
        ensure_server_certificate(*pair, key_type=KeyType.BOTH)


def test_to_ecdsa_rsa_is_added_and_what_is_there_stays(files):
    before = (files / "server.crt").read_bytes()
    made = ensure_server_certificate(files / "server.crt", files / "server.key", key_type=KeyType.BOTH)
    assert {path.name for path in made} == {"ca-rsa.crt", "ca-rsa.key", "server-rsa.crt", "server-rsa.key"}
    assert (files / "server.crt").read_bytes() == before
    assert ensure_server_certificate(files / "server.crt", files / "server.key", key_type=KeyType.BOTH) == []
    for path in made:
        path.unlink()


def test_a_peer_causes_no_second_handshake_and_no_compression_and_chooses_no_suite(files):
    chosen = serving(files).options
    for option in (ssl.OP_NO_RENEGOTIATION, ssl.OP_NO_COMPRESSION, ssl.OP_CIPHER_SERVER_PREFERENCE):
        assert chosen & option
