"""The gateway's keys in memory, the ring of those that seal payloads, and their nonces.

Owns which key seals and which keys open. Must not know files: `gateway.keys.key_files` reads and
writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.mqtt.errors import MqttError
from gateway.mqtt.reason_codes import Reason

KEY_BYTES = 32
_OF_A_FIELD = 2**32
"""Nonces that one fixed field is good for."""
USES_MAX = 2**32 - 2**24
"""Messages under one key: below the 2^32 of NIST SP 800-38D (8.3), by more than what a crash can
leave uncounted."""


class KeysUnavailable(MqttError):
    """Nothing can be sealed now. Fails closed: the message is refused, never sent in plain."""

    reason = Reason.IMPLEMENTATION_SPECIFIC_ERROR


class KeyState(StrEnum):
    """What a key may still be used for."""

    ACTIVE = "active"
    DECRYPT_ONLY = "decrypt-only"
    """A sealing key that was replaced."""
    VERIFY_ONLY = "verify-only"
    """A key that signed tokens and was replaced."""
    DESTROYED = "destroyed"


@dataclass(frozen=True, slots=True)
class Key:
    """One version of the sealing key, or of the key that signs tokens."""

    key_id: str
    material: bytes = field(repr=False)
    """32 bytes; empty once destroyed."""
    state: KeyState
    created_at: int
    """Unix seconds."""
    retired_at: int | None = None
    """Unix seconds: when the next one became active."""
    until: int | None = None
    """Unix seconds: a verify-only key verifies nothing from then on."""


class Nonces:
    """96-bit nonces for AES-GCM that never repeat under a key (NIST SP 800-38D, 8.2.1).

    The fixed field is 64 random bits, drawn anew by each process at each start, after every 2^32
    nonces, and when the machine may have been resumed from a snapshot (`renew`); the invocation field is
    a 32-bit counter. Within a field the counter can't repeat.
    Across processes, workers, restarts and nodes two of them must draw the same field: with 2^16
    starts under one key the odds are below 2^-33, which is what the standard asks of a random
    nonce, and they do not grow with the number of messages. A renewal counts as a start. Nothing is
    stored, so a restored backup can't bring a used nonce back. A process must not be forked after this
    is made.
    """

    __slots__ = ("_count", "_end", "_fixed", "_random", "make_sure")

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._fixed = random(8)
        self._count = 0
        self._end = 0
        """The count from which on the next nonce is not just given: 0 while there is doubt."""
        self.make_sure: Callable[[], None] = lambda: None
        """Called before the first nonce after `doubt`, to `renew` if need be. No nonce if it raises."""

    def next(self) -> bytes:
        """A nonce that was not given before."""
        count = self._count
        if count >= self._end:
            count = self._count_without_doubt()
        self._count = count + 1
        return self._fixed + count.to_bytes(4, "big")

    def _count_without_doubt(self) -> int:
        self.make_sure()
        if self._count >= _OF_A_FIELD:
            self.renew()
        self._end = _OF_A_FIELD
        return self._count

    def doubt(self) -> None:
        """From now on it is not known whether another process goes on with the same field."""
        self._end = 0

    def renew(self) -> None:
        """Draw the fixed field anew: another process may go on with the one that is there."""
        self._fixed = self._random(8)
        self._count = 0


class KeyRing:
    """All versions of the sealing key, of which one seals."""

    __slots__ = ("_cipher", "_earlier", "_nonces", "_opening", "_states", "_unsaved", "_uses", "active_id")

    def __init__(self, keys: Sequence[Key], nonces: Nonces, uses: Mapping[str, int]) -> None:
        """`uses` says how often each key has sealed before. Raises ValueError: not exactly one is active."""
        self._nonces = nonces
        self.active_id = ""
        """The key id that goes into new envelopes. `replace` alone sets it."""
        self._uses = self._unsaved = 0
        self._earlier: dict[str, int] = {}
        self.replace(keys, uses)

    def replace(self, keys: Sequence[Key], uses: Mapping[str, int]) -> None:
        """Use these keys from now on, in place: whoever holds the ring seals and opens with them.

        The nonces go on where they are. Raises ValueError, and leaves all as it was.
        """
        active = [key for key in keys if key.state is KeyState.ACTIVE]
        if len(active) != 1:
            raise ValueError("a key ring has exactly one active key")
        opening = {
            key.key_id: AESGCM(key.material)
            for key in keys
            if key.state in {KeyState.ACTIVE, KeyState.DECRYPT_ONLY}
        }
        key_id = active[0].key_id
        before = self._uses if key_id == self.active_id else 0
        self._note_unsaved()
        self._states = {key.key_id: key.state for key in keys}
        self._opening = opening
        self._cipher = opening[key_id]
        self.active_id = key_id
        # What is being saved just now is in neither number of the sum; `before` still has it.
        self._uses = max(before, uses.get(key_id, 0) + self._earlier.get(key_id, 0))

    @property
    def uses(self) -> int:
        """How often the active key has sealed, as far as this process knows."""
        return self._uses

    def state_of(self, key_id: str) -> KeyState | None:
        """The state of a version; None when there never was one, as far as this process knows."""
        return self._states.get(key_id)

    def encrypt(self, plaintext: bytes, associated_data: bytes) -> bytes:
        """Nonce, ciphertext and tag under the active key."""
        if self._uses >= USES_MAX:
            raise KeysUnavailable("the sealing key is used up and must be rotated")
        self._uses += 1
        self._unsaved += 1
        nonce = self._nonces.next()
        return nonce + self._cipher.encrypt(nonce, plaintext, associated_data)

    def renew_nonces(self) -> None:
        """Seal with nonces of a new field from now on."""
        self._nonces.renew()

    def opener(self, key_id: str) -> AESGCM | None:
        """The cipher of a version that may still open; None for any other."""
        return self._opening.get(key_id)

    def take_unsaved_uses(self) -> dict[str, int]:
        """How many messages each key has sealed since the last call: the store adds them up."""
        self._note_unsaved()
        unsaved, self._earlier = self._earlier, {}
        return unsaved

    def _note_unsaved(self) -> None:
        if self._unsaved:
            self._earlier[self.active_id] = self._earlier.get(self.active_id, 0) + self._unsaved
            self._unsaved = 0
