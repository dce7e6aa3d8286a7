"""TLS contexts of the standard library's OpenSSL: towards devices, and towards the bus."""

from __future__ import annotations

import ssl
from pathlib import Path

from gateway.net.bounded_tls import BoundedSSLContext
from gateway.pki.ecdsa_and_rsa_choice import rsa_twin
from gateway.system.tls_floor import raise_to_floor


def server_context(certificate: Path, key: Path, client_ca: Path | None) -> ssl.SSLContext:
    """What devices connect to: TLS 1.2 and 1.3. With `client_ca` a device may show a certificate.

    Beside the certificate there may be one for RSA (`pki.ecdsa_and_rsa_choice`).

    Session tickets are off: each costs the handshake two more messages. With TLS 1.2 OpenSSL still resumes
    by session id (RFC 5246, 7.3), and Python has no way to turn that off. It keeps 20,480 sessions per
    context at most, of 1 KiB, or 5 KiB with a client certificate. `certificate_name` bears in mind that such
    a certificate was verified long ago; a new context, as after each change of the files, has no session.
    """
    context = raise_to_floor(BoundedSSLContext(ssl.PROTOCOL_TLS_SERVER))
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    # The key has no passphrase; an empty one keeps OpenSSL from asking on a terminal.
    context.load_cert_chain(certificate, key, password="")
    second = rsa_twin(certificate), rsa_twin(key)
    if any(path.exists() for path in second):
        # OpenSSL keeps one pair of each kind of key, and shows a client the one whose signatures it takes.
        context.load_cert_chain(*second, password="")
    if client_ca is not None:
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(client_ca)
    return context


def bus_context(authority: Path) -> ssl.SSLContext:
    """What the gateway connects to the bus with: the bus must show a certificate of this CA for its name."""
    context = raise_to_floor(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    context.load_verify_locations(authority)
    return context


def certificate_name(peer: ssl.SSLObject | None, now: int) -> str | None:
    """The common name of the verified client certificate: a device id. None without a certificate.

    `now` is Unix time in milliseconds. An empty string, which names no device, if the certificate has several
    names or none, or has ended.
    """
    certificate = peer.getpeercert() if peer is not None else None
    if not certificate:
        return None
    # A session that is resumed brings the certificate of the handshake that began it, verified only then.
    if ssl.cert_time_to_seconds(str(certificate["notAfter"])) * 1000 < now:
        return ""
    subject: tuple[tuple[tuple[str, str], ...], ...] = certificate.get("subject", ())  # type: ignore[assignment]
    names = [value for attributes in subject for name, value in attributes if name == "commonName"]
    # Two names would be two identities: neither is believed.
    return names[0] if len(names) == 1 else ""
