"""The gateway's keys in memory, the key ring of those that seal payloads, and their nonces.

Owns which key seals and which keys open. Must not know files: `gateway.keys.key_files` reads and writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from gateway.mqtt.errors import MqttError
from gateway.mqtt.reason_codes import Reason

KEY_BYTES = 32
_NONCES_PER_FIELD = 2**32
"""How many nonces there are with one fixed field (see `Nonces`)."""
USES_MAX = 2**32 - 2**24
"""Messages that one key may seal: fewer than the 2^32 of NIST SP 800-38D (8.3), by more than a crash can
leave uncounted."""


class KeysUnavailable(MqttError):
    """Nothing can be sealed now. The message is then refused, and never sent in plain."""

    reason = Reason.IMPLEMENTATION_SPECIFIC_ERROR


class KeyState(StrEnum):
    """What a key may still be used for."""

    ACTIVE = "active"
    """It seals or signs; one of each file's keys."""
    DECRYPT_ONLY = "decrypt-only"
    """A sealing key that was replaced: it still opens."""
    VERIFY_ONLY = "verify-only"
    """A signing key that was replaced: it still verifies, until `Key.until`."""
    DESTROYED = "destroyed"
    """Only its id is left."""


@dataclass(frozen=True, slots=True)
class Key:
    """One version of the sealing key, of the key that signs tokens, or of that of the audit trail."""

    key_id: str
    material: bytes = field(repr=False)
    """32 bytes; empty once destroyed."""
    state: KeyState
    created_at: int
    """Unix seconds."""
    retired_at: int | None = None
    """Unix seconds: when the next version became active. None: this is the active one."""
    until: int | None = None
    """Unix seconds: from then on a verify-only key verifies nothing. None for other keys."""


class Nonces:
    """96-bit nonces for AES-GCM that never repeat under a key (NIST SP 800-38D, 8.2.1).

    A nonce consists of a fixed field and an invocation field. The fixed field is 64 random bits, drawn anew
    by each process at its start, after every 2^32 nonces, and if the machine may have been resumed from a
    snapshot (`renew`). The invocation field is a 32-bit counter, so nonces with the same fixed field can't
    repeat. Across processes, restarts and nodes a nonce repeats only if two of them draw the same fixed
    field. With 2^16 starts under one key the probability is below 2^-33, which the standard demands of random
    nonces, and it does not grow with the number of messages. A renewal counts as a start. Nothing is stored,
    so a restored backup can't bring a used nonce back. A process must not be forked after this object is
    made.
    """

    __slots__ = ("_count", "_end", "_fixed", "_random", "make_sure")

    def __init__(self, random: Callable[[int], bytes]) -> None:
        self._random = random
        self._fixed = random(8)
        self._count = 0
        self._end = 0
        """From this value of `_count` on `make_sure` is called, and the fixed field renewed if it is used up,
        before a nonce is given; 0 after `doubt`."""
        self.make_sure: Callable[[], None] = lambda: None
        """Called before the first nonce after `doubt`, and has to call `renew` if need be. If it raises, no
        nonce is given."""

    def next(self) -> bytes:
        """A nonce that has not been given before."""
        count = self._count
        if count >= self._end:
            count = self._count_without_doubt()
        self._count = count + 1
        return self._fixed + count.to_bytes(4, "big")

    def _count_without_doubt(self) -> int:
        self.make_sure()
        if self._count >= _NONCES_PER_FIELD:
            self.renew()
        self._end = _NONCES_PER_FIELD
        return self._count

    def doubt(self) -> None:
        """Note that another process may be using the same fixed field: `make_sure` will find out."""
        self._end = 0

    def renew(self) -> None:
        """Draw a new fixed field, for another process may be using the present one."""
        self._fixed = self._random(8)
        self._count = 0


class KeyRing:
    """All versions of the sealing key, of which one seals."""

    __slots__ = ("_cipher", "_earlier", "_nonces", "_opening", "_states", "_unsaved", "_uses", "active_id")

    def __init__(self, keys: Sequence[Key], nonces: Nonces, uses: Mapping[str, int]) -> None:
        """`uses`: how often each key has sealed before. Raises ValueError unless exactly one is active."""
        self._nonces = nonces
        self.active_id = ""
        """Id of the key that seals. Only `replace` sets it."""
        self._uses = self._unsaved = 0
        self._earlier: dict[str, int] = {}
        """Unsaved uses by key, except for those of the active key that are counted in `_unsaved`."""
        self.replace(keys, uses)

    def replace(self, keys: Sequence[Key], uses: Mapping[str, int]) -> None:
        """Use these keys from now on; all holders of this object seal and open with them.

        The nonces continue. Raises ValueError, and changes nothing, unless exactly one key is active.
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
        # Uses that are being saved right now are in neither number of the sum, but still in `before`.
        self._uses = max(before, uses.get(key_id, 0) + self._earlier.get(key_id, 0))

    @property
    def uses(self) -> int:
        """How often the active key has sealed, as far as this process knows."""
        return self._uses

    def state_of(self, key_id: str) -> KeyState | None:
        """The state of a key; None if there never was one with this id, as far as this process knows."""
        return self._states.get(key_id)

    def encrypt(self, plaintext: bytes, associated_data: bytes) -> bytes:
        """Nonce, ciphertext and tag under the active key. Raises KeysUnavailable if that is used up."""
        if self._uses >= USES_MAX:
            raise KeysUnavailable("the sealing key is used up and must be rotated")
        self._uses += 1
        self._unsaved += 1
        nonce = self._nonces.next()
        return nonce + self._cipher.encrypt(nonce, plaintext, associated_data)

    def renew_nonces(self) -> None:
        """Seal with nonces of a new fixed field from now on."""
        self._nonces.renew()

    def opener(self, key_id: str) -> AESGCM | None:
        """The cipher of a key that may still open; None for any other."""
        return self._opening.get(key_id)

    def take_unsaved_uses(self) -> dict[str, int]:
        """How many messages each key has sealed since the last call, for the store to add up."""
        self._note_unsaved()
        unsaved, self._earlier = self._earlier, {}
        return unsaved

    def _note_unsaved(self) -> None:
        if self._unsaved:
            self._earlier[self.active_id] = self._earlier.get(self.active_id, 0) + self._unsaved
            self._unsaved = 0
