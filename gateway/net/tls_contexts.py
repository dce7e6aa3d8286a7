"""TLS contexts of the standard library's OpenSSL: towards devices, and towards the bus."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any, NamedTuple

from gateway.net.bounded_tls import BoundedSSLObject
from gateway.net.tls_portions import PortionCap
from gateway.pki.ecdsa_and_rsa_choice import rsa_twin
from gateway.system.tls_floor import raise_to_floor


class BoundedSSLContext(ssl.SSLContext):
    """Makes a `BoundedSSLObject` per connection, whose owner gives it its transport with `handshake_done`."""

    sslobject_class = BoundedSSLObject
    _cap: PortionCap | None = None

    def wrap_bio(self, incoming: ssl.MemoryBIO, *args: Any, **kwargs: Any) -> BoundedSSLObject:  # noqa: ANN401
        """Called by the loop for each connection."""
        made = super().wrap_bio(incoming, *args, **kwargs)
        assert isinstance(made, BoundedSSLObject)  # noqa: S101 - for the type checker
        if self._cap is None:
            self._cap = PortionCap()
        made.attach(incoming, self._cap)
        return made


class ClientCertificate(NamedTuple):
    """Of the verified client certificate of a peer what its login needs."""

    device_id: str
    """Its common name; empty if there is a `fault`."""
    ends: int
    """notAfter, in Unix seconds."""
    fault: str = ""
    """Why it names no device, in words for our log."""


def server_context(certificate: Path, key: Path, client_ca: Path | None) -> ssl.SSLContext:
    """What devices connect to: TLS 1.2 and 1.3. With `client_ca` a device may show a certificate.

    Beside the certificate there may be one for RSA (`pki.ecdsa_and_rsa_choice`).

    Session tickets are off: each costs the handshake two more messages. With TLS 1.2 OpenSSL still resumes
    by session id (RFC 5246, 7.3), and Python has no way to turn that off. It keeps 20,480 sessions per
    context, of 1 KiB; those with client certificates only while they last (`BoundedSSLObject.unwrap`).
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


def client_certificate(peer: ssl.SSLObject | None, now: int) -> ClientCertificate | None:
    """The verified client certificate; None without one. `now` is Unix time in milliseconds."""
    certificate = peer.getpeercert() if peer is not None else None
    if not certificate:
        return None
    ends = int(ssl.cert_time_to_seconds(str(certificate["notAfter"])))
    if ends * 1_000 <= now:
        # A session that is resumed brings the certificate of the handshake that began it, verified only then.
        return ClientCertificate("", ends, "the client certificate has ended")
    subject: tuple[tuple[tuple[str, str], ...], ...] = certificate.get("subject", ())  # type: ignore[assignment]
    names = [value for attributes in subject for name, value in attributes if name == "commonName"]
    if len(names) != 1 or not names[0]:
        # Two names would be two identities: neither is believed.
        return ClientCertificate("", ends, "the client certificate has not one common name")
    return ClientCertificate(names[0], ends)
