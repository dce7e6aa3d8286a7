"""The least of TLS, where a Python's new contexts offer all that OpenSSL has, as some distributions' do."""

from __future__ import annotations

import asyncio
import re
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from harness.gateway import ROOT
from harness.receivers import HttpReceiver

from gateway.alerts.channels.allowed_addresses import tls_context
from gateway.alerts.channels.channel import NotDelivered
from gateway.alerts.channels.http_post import post
from gateway.alerts.channels.mail import Email
from gateway.alerts.channels.settings import EmailSettings
from gateway.alerts.notification_grouping import Listed, State, message_of
from gateway.alerts.rules import Severity
from gateway.config import file_checks
from gateway.http import outbound_probes
from gateway.net.tls_contexts import bus_context, server_context
from gateway.pki.ecdsa_and_rsa_choice import KeyType
from gateway.pki.initial_certificates import ensure_server_certificate
from gateway.system.tls_floor import raise_to_floor

FIRING = [Listed("down", Severity.CRITICAL, "It is down.", 1.0, {"device": "d1"}, 1_790_000_000_000)]
MESSAGE = message_of(State.FIRING, FIRING, node="gw-1", at=1_790_000_005_000)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certs")
    ensure_server_certificate(folder / "server.crt", folder / "server.key", names=[], key_type=KeyType.RSA)
    return folder


@pytest.fixture
def a_lax_build(monkeypatch):
    """A Python whose new contexts offer all that OpenSSL has, as those of some distributions do."""
    new = ssl.SSLContext.__new__

    def lax(cls, *args, **named):
        made = new(cls, *args, **named)
        made.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        made.set_ciphers("ALL:@SECLEVEL=0")
        return made

    monkeypatch.setattr(ssl.SSLContext, "__new__", lax)
    assert "AES128-SHA" in {cipher["name"] for cipher in ssl.create_default_context().get_ciphers()}
    outbound_probes._system_cas.cache_clear()
    yield
    outbound_probes._system_cas.cache_clear()


@pytest.mark.parametrize("towards", ["devices", "bus", "alert channels", "other services"])
def test_how_python_was_built_decides_nothing_about_tls(a_lax_build, files, towards):
    readme = (ROOT / "README.md").read_text()
    named = set(re.findall(r"`(TLS_[A-Z0-9_]+_SHA\d+)`", readme))
    ends = re.search(r"`ECDHE-RSA-` with ([^;]+);", readme)[1]
    named |= {f"ECDHE-{kind}-{end}" for kind in ("ECDSA", "RSA") for end in re.findall(r"`([^`]+)`", ends)}
    context = {
        "devices": lambda: server_context(files / "server.crt", files / "server.key", None),
        "bus": lambda: bus_context(files / "ca.crt"),
        "alert channels": lambda: tls_context(None),
        "other services": outbound_probes._system_cas,
    }[towards]()
    offered = {cipher["name"] for cipher in context.get_ciphers()}
    assert offered == named
    assert context.security_level >= 2
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_what_the_system_demands_beyond_it_stays():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_ciphers("HIGH:@SECLEVEL=3")
    assert raise_to_floor(context) is context
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert context.security_level == 3


def weak_pair(folder: Path) -> tuple[Path, Path]:
    """A certificate with an RSA key of 1,024 bits, and the key."""
    key = rsa.generate_private_key(65_537, 1_024)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pair = folder / "weak.crt", folder / "weak.key"
    pem = serialization.Encoding.PEM
    pair[0].write_bytes(certificate.public_bytes(pem))
    pair[1].write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pair


def test_what_the_listener_refuses_a_check_of_the_files_finds(a_lax_build, tmp_path):
    pair = weak_pair(tmp_path)
    with pytest.raises(ssl.SSLError, match="too small"):
        server_context(*pair, None)
    (problem,) = file_checks._pair(*pair)
    assert "cannot be used" in problem
    assert "too small" in problem.lower().replace("_", " ")


@pytest.fixture
async def old_server(a_lax_build, files):
    """Speaks TLS 1.2 without forward secrecy, and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA:@SECLEVEL=0")
    context.load_cert_chain(files / "server.crt", files / "server.key")
    server = HttpReceiver(context)
    # Without the floor a client of this build would talk to it.
    plain = ssl.create_default_context(cafile=files / "ca.crt")
    _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=plain)
    assert writer.get_extra_info("cipher")[0] == "AES128-SHA"
    writer.close()
    yield server
    server.stop()


async def test_a_watched_page_below_it_is_not_up(old_server):
    is_up, said = await outbound_probes.ask_page(old_server.url)
    assert not is_up
    assert "it takes no TLS that the gateway speaks" in said


async def by_webhook(port: int, authority: Path) -> None:
    await post(f"https://127.0.0.1:{port}/", b"{}", {}, private=True, ca_file=authority)


async def by_mail(port: int, authority: Path) -> None:
    settings = EmailSettings(
        "mail",
        Severity.INFO,
        host="127.0.0.1",
        port=port,
        starttls=False,
        sender="gateway@example.org",
        recipients=("ops@example.org",),
        username="",
        password=None,
        ca_file=authority,
    )
    await Email(settings, private=True).send(MESSAGE)


@pytest.mark.parametrize("send", [by_webhook, by_mail])
async def test_to_a_server_below_it_no_alert_is_sent(old_server, files, send):
    with pytest.raises(NotDelivered, match="it takes no TLS that the gateway speaks"):
        await send(old_server.port, files / "ca.crt")
    assert not old_server.posted
