"""The sealed payload that stands on the bus (version 1): AES-256-GCM in one JSON object.

Associated data binds version, algorithm, key, time, topic and sender, so an envelope that is moved
to another topic, sender or time does not open. The six are joined by U+0000, which none of them can
hold (topics: MQTT 5, 1.5.4; the others: our own character classes), so no two sets of fields give
the same bytes.
"""

from __future__ import annotations

import msgspec
from cryptography.exceptions import InvalidTag

from gateway.core.keyring import KeyRing

VERSION = 1
ALGORITHM = "AES-256-GCM"
_NONCE_BYTES = 12
_TAG_BYTES = 16


class OpenFailed(Exception):
    """No envelope of ours for this topic. `str()` says why; never part of the payload."""


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """The sealed object, in the order of its fields on the wire."""

    encrypted: bool
    algorithm: str
    key_id: str
    data: bytes
    """Nonce (12 bytes), ciphertext, tag (16 bytes); base64 in JSON."""
    timestamp: int
    """Unix milliseconds of sealing."""
    v: int
    topic: str
    sender: str


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Envelope)


def _associated_data(key_id: str, timestamp: int, topic: str, sender: str) -> bytes:
    return f"{VERSION}\0{ALGORITHM}\0{key_id}\0{timestamp}\0{topic}\0{sender}".encode()


def seal(ring: KeyRing, payload: bytes, *, topic: str, sender: str, now: int) -> bytes:
    """The envelope of `payload` for `topic`. `now` is Unix milliseconds.

    Raises KeysUnavailable when the active key is used up.
    """
    key_id = ring.active_id
    data = ring.encrypt(payload, _associated_data(key_id, now, topic, sender))
    envelope = Envelope(
        encrypted=True,
        algorithm=ALGORITHM,
        key_id=key_id,
        data=data,
        timestamp=now,
        v=VERSION,
        topic=topic,
        sender=sender,
    )
    return _encoder.encode(envelope)


def unseal(ring: KeyRing, message: bytes, *, topic: str) -> bytes:
    """The payload of an envelope that arrived on `topic`. Raises OpenFailed."""
    try:
        envelope = _decoder.decode(message)
    except msgspec.DecodeError:
        raise OpenFailed("not a sealed message") from None
    if envelope.encrypted is not True or envelope.v != VERSION or envelope.algorithm != ALGORITHM:
        raise OpenFailed("a sealed message of an unknown version or algorithm")
    if envelope.topic != topic:
        raise OpenFailed("sealed for another topic")
    data = envelope.data
    if len(data) < _NONCE_BYTES + _TAG_BYTES:
        raise OpenFailed("a sealed message that is cut off")
    cipher = ring.opener(envelope.key_id)
    if cipher is None:
        raise OpenFailed("sealed under a key that is not here")
    bound = _associated_data(envelope.key_id, envelope.timestamp, topic, envelope.sender)
    try:
        return cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], bound)
    except InvalidTag:
        raise OpenFailed("the message does not authenticate") from None
