"""Checkpoints: a tree's size and root, signed. C2SP's tlog-checkpoint in a signed-note, with Ed25519.

Sans-I/O. The origin is the name of a trail, and of the key that signs it: so a checkpoint of one node never
counts as one of a different node. A note is the text of a checkpoint with its signatures.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from gateway.audit_trail.merkle import HASH_BYTES

_ED25519 = b"\x01"
"""The type of signature, as signed-note numbers them."""
_ID_BYTES = 4
_LONGEST = 65_536
"""Characters of a note, at most."""
_SIGNATURES = 16
"""Signatures of a note that are looked at."""
_ORIGIN = re.compile(r"[^\s+\x00-\x20\x7f\ud800-\udfff]{1,200}")
_SIZE = re.compile(r"0|[1-9][0-9]{0,17}")


class BadCheckpoint(ValueError):
    """It is no checkpoint, or not one of this trail. The text says why."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What was signed."""

    origin: str
    size: int
    """How many entries the tree has."""
    root: bytes

    def text(self) -> str:
        """What is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """The public key of a trail's checkpoints: `<origin>+<id>+<key>`, as Go's sumdb writes it (vkey)."""

    origin: str
    public: bytes

    @classmethod
    def parse(cls, text: str) -> VerifierKey:
        """Read one. Raises BadCheckpoint."""
        origin, _, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        try:
            key = base64.b64decode(encoded, validate=True)
        except ValueError:
            key = b""
        made = cls(origin, key[1:])
        if not _ORIGIN.fullmatch(origin) or key[:1] != _ED25519 or len(key) != 1 + HASH_BYTES:
            raise BadCheckpoint(
                "this is not a key of an audit trail: ORIGIN+ID+KEY, as key.pub beside the trail has it"
            )
        if made.id.hex() != key_id:
            raise BadCheckpoint("this key was cut or changed: its id is not that of the key")
        return made

    @property
    def id(self) -> bytes:
        """What distinguishes keys of the same name."""
        return sha256(self.origin.encode() + b"\n" + _ED25519 + self.public).digest()[:_ID_BYTES]

    def __str__(self) -> str:
        return f"{self.origin}+{self.id.hex()}+{base64.b64encode(_ED25519 + self.public).decode()}"

    def verified(self, note: str) -> Checkpoint:
        """The checkpoint of a note that this key has signed. Raises BadCheckpoint."""
        found, signed, signatures = _parsed(note)
        if found.origin != self.origin:
            raise BadCheckpoint(f"it is of another trail: {found.origin}, and this one is {self.origin}")
        mine = [
            signature for name, key_id, signature in signatures if (name, key_id) == (self.origin, self.id)
        ]
        if not mine:
            raise BadCheckpoint(f"it is not signed by the key {self.id.hex()} of {self.origin}")
        for signature in mine:
            try:
                Ed25519PublicKey.from_public_bytes(self.public).verify(signature, signed)
            except (InvalidSignature, ValueError):
                raise BadCheckpoint("its signature is wrong: it was changed, or made up") from None
        return found


class SigningKey:
    """What signs the checkpoints of one trail."""

    def __init__(self, origin: str, seed: bytes) -> None:
        """`seed`: 32 bytes (RFC 8032, 5.1.5)."""
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.verifier = VerifierKey(origin, self._key.public_key().public_bytes_raw())

    def sign(self, size: int, root: bytes) -> str:
        """The note of a checkpoint."""
        text = Checkpoint(self.verifier.origin, size, root).text()
        signature = base64.b64encode(self.verifier.id + self._key.sign(text.encode())).decode()
        return f"{text}\n— {self.verifier.origin} {signature}\n"


def origin_of(note: str) -> str:
    """The origin that a note claims to have, before its signature is verified. Raises BadCheckpoint."""
    return _parsed(note)[0].origin


def _parsed(note: str) -> tuple[Checkpoint, bytes, list[tuple[str, bytes, bytes]]]:
    """What a note says, the bytes that are signed, and its signatures by name and key id."""
    if len(note) > _LONGEST:
        raise BadCheckpoint("it is longer than a checkpoint can be")
    text, blank, signed_by = note.rpartition("\n\n")
    try:
        signed = f"{text}\n".encode()
    except UnicodeEncodeError:
        raise BadCheckpoint("it is no whole checkpoint: it holds half a character") from None
    lines = text.split("\n")
    if not blank or len(lines) < 3 or not _ORIGIN.fullmatch(lines[0]) or not _SIZE.fullmatch(lines[1]):
        raise BadCheckpoint("it is no checkpoint: origin, size and root, each on a line, and a signature")
    root = _base64(lines[2])
    if len(root) != HASH_BYTES or not signed_by.endswith("\n"):
        raise BadCheckpoint("it is no whole checkpoint: it was cut, or its root is no SHA-256")
    signatures = []
    for line in signed_by.removesuffix("\n").split("\n")[:_SIGNATURES]:
        dash, name, encoded = (*line.split(" "), "", "")[:3]
        signature = _base64(encoded)
        if dash != "—" or not name or len(signature) <= _ID_BYTES:
            raise BadCheckpoint("it is no whole checkpoint: a signature's line can't be read")
        signatures.append((name, signature[:_ID_BYTES], signature[_ID_BYTES:]))
    return Checkpoint(lines[0], int(lines[1]), root), signed, signatures


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return b""
