"""The envelope, which is the sealed payload on the bus (version 1): AES-256-GCM in one JSON object.

The associated data contains version, algorithm, key id, time, topic and sender, so an envelope that is moved
to a different topic, sender or time does not open. The six are joined by U+0000, which none of them can
contain (topics: MQTT 5, 1.5.4; the others: our own character classes), so no two sets of fields give the same
bytes.

An envelope has these fields and no others: whatever somebody on the bus added would reach, unsealed, those
who may not open it. An answer of the service `encrypt` is an envelope with the `request_id` of its request,
and may be published as it is.

JSON allows many forms of one envelope, and the choice (spaces, a repeated member, a `request_id`, the unused
bits of base64) could carry a message in plain. So receivers that may not open an envelope get it in the
single form of `canonical`, of which every byte is authenticated, except for the flag `rewrapped`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec
import pybase64
from cryptography.exceptions import InvalidTag

from gateway.keys.key_ring import KeyRing, KeyState

VERSION = 1
ALGORITHM = "AES-256-GCM"
_NONCE_BYTES = 12
_TAG_BYTES = 16
REQUEST_ID_MAX = 1_024
"""Longest `request_id`, in bytes of JSON."""
RequestId = Annotated[str, msgspec.Meta(max_length=REQUEST_ID_MAX)] | int | float


class OpenFailed(Exception):
    """This is not an envelope of ours for this topic. `str()` says why, and quotes nothing of the payload."""


class Envelope(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """The sealed object, in the order of its fields on the wire."""

    encrypted: bool
    algorithm: str
    key_id: str
    data: str
    """Nonce (12 bytes), ciphertext and tag (16 bytes), in base64. It is checked only on opening: checking a
    long one takes more time than everything else that is done with an envelope before."""
    timestamp: int
    """When it was sealed, in Unix milliseconds."""
    v: int
    topic: str
    sender: str
    rewrapped: bool = False
    """Whether it was re-sealed under a different key, with the time of the first sealing: it is no new
    message.

    The flag is not authenticated. Whoever adds or removes it can have a message ignored or delivered again,
    but anybody who may write to the bus can do that anyway. So `canonical` keeps it.
    """
    request_id: RequestId | None = None
    """That of the request that it was the answer to. Nothing depends on it."""


_AAD_HEAD = f"{VERSION}\0{ALGORITHM}\0"
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Envelope)


def _associated_data(key_id: str, timestamp: int, topic: str, sender: str) -> bytes:
    return f"{_AAD_HEAD}{key_id}\0{timestamp}\0{topic}\0{sender}".encode()


class Sealer:
    """Seals the payloads of one sender for one topic. The parts that stay the same are encoded once."""

    __slots__ = (
        "_aad_head",
        "_aad_tail",
        "_head",
        "_key_id",
        "_now",
        "_ring",
        "_sender",
        "_tail",
        "_topic",
    )

    def __init__(self, ring: KeyRing, now: Callable[[], int], *, topic: str, sender: str) -> None:
        """`now` returns Unix milliseconds."""
        self._ring = ring
        self._now = now
        self._topic = topic
        self._sender = sender
        self._key_id = ""

    def _prepare(self, key_id: str) -> None:
        self._key_id = key_id
        # As the encoder would write them, which a test checks.
        self._head = b'{"encrypted":true,"algorithm":"%s","key_id":%s,"data":"' % (
            ALGORITHM.encode(),
            _encoder.encode(key_id),
        )
        self._tail = b',"v":%d,"topic":%s,"sender":%s}' % (
            VERSION,
            _encoder.encode(self._topic),
            _encoder.encode(self._sender),
        )
        self._aad_head = f"{VERSION}\0{ALGORITHM}\0{key_id}\0".encode()
        self._aad_tail = f"\0{self._topic}\0{self._sender}".encode()

    def seal(self, payload: bytes) -> bytes:
        """The envelope of `payload`. Raises KeysUnavailable if the active key is used up."""
        ring = self._ring
        if ring.active_id != self._key_id:
            self._prepare(ring.active_id)
        timestamp = b"%d" % self._now()
        data = ring.encrypt(payload, self._aad_head + timestamp + self._aad_tail)
        return b"".join((self._head, pybase64.b64encode(data), b'","timestamp":', timestamp, self._tail))


def read_envelope(message: bytes, *, topic: str | None = None) -> Envelope:
    """Decode an envelope without opening it: its fields are not authenticated yet. Raises OpenFailed.

    With `topic`, the topic that it was published to, OpenFailed is also raised if the envelope names another.
    """
    try:
        envelope = _decoder.decode(message)
    # DecodeError, or UnicodeDecodeError for a string that is not UTF-8; RecursionError for deep nesting.
    except (ValueError, RecursionError):
        raise OpenFailed("not a sealed message") from None
    if not is_known(envelope):
        raise OpenFailed("a sealed message of an unknown version or algorithm")
    if topic is not None and envelope.topic != topic:
        raise OpenFailed("sealed for another topic")
    return envelope


def is_known(envelope: Envelope) -> bool:
    """Whether it has the version and the algorithm that we know."""
    return envelope.encrypted is True and envelope.v == VERSION and envelope.algorithm == ALGORITHM


def canonical(envelope: Envelope) -> bytes:
    """The envelope in the form in which `Sealer` and `reseal` write it, without anything that others added.

    Only for an envelope that opened: then its version, algorithm, key id, time, topic and sender are
    authenticated.
    """
    data = pybase64.b64encode_as_string(pybase64.b64decode(envelope.data, validate=True))
    return _encoder.encode(msgspec.structs.replace(envelope, data=data, request_id=None))


def open_envelope(ring: KeyRing, envelope: Envelope) -> bytes:
    """The payload; then topic, sender and timestamp of the envelope are authenticated. Raises OpenFailed."""
    try:
        # Positional arguments: keywords would double the cost of the call.
        data = pybase64.b64decode(envelope.data, None, True)  # noqa: FBT003 - validate
    except ValueError:
        raise OpenFailed("not a sealed message") from None
    if len(data) < _NONCE_BYTES + _TAG_BYTES:
        raise OpenFailed("a sealed message that is cut off")
    key_id = envelope.key_id
    cipher = ring.opener(key_id)
    if cipher is None:
        destroyed = ring.state_of(key_id) is KeyState.DESTROYED
        why = "a key that was destroyed" if destroyed else "a key that is not here"
        raise OpenFailed(f"sealed under {why}")
    aad = _associated_data(key_id, envelope.timestamp, envelope.topic, envelope.sender)
    try:
        return cipher.decrypt(data[:_NONCE_BYTES], data[_NONCE_BYTES:], aad)
    except InvalidTag:
        raise OpenFailed("the message does not authenticate") from None


def open_payload(ring: KeyRing, message: bytes, *, topic: str) -> bytes:
    """The plaintext of an envelope that arrived on `topic`. Raises OpenFailed."""
    return open_envelope(ring, read_envelope(message, topic=topic))


def reseal(ring: KeyRing, envelope: Envelope) -> bytes:
    """The envelope sealed again under the active key: all the same but for the flag `rewrapped`.

    Raises OpenFailed, and KeysUnavailable if the active key is used up.
    """
    sealer = Sealer(ring, lambda: envelope.timestamp, topic=envelope.topic, sender=envelope.sender)
    return sealer.seal(open_envelope(ring, envelope))[:-1] + b',"rewrapped":true}'
