"""What the devices did and were refused, counted by topic template until somebody saves it.

Each decision is recorded where it is made: once per topic and connection, not per message. Bounded for each
device and in all; what is beyond the bounds is counted under the template `OVERFLOW`. It keeps no payload, no
topic as it was sent, and no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from gateway.policy.engine.identity import Identity
from gateway.policy.engine.policy import RESERVED, SERVICE
from gateway.policy.engine.rules import Action, Decision
from gateway.policy.engine.topic_generalisation import template_of

RECORD_AGAIN_SECONDS = 600
"""What goes on for long is recorded again after this many seconds, so that nobody takes it for over."""
OVERFLOW = ""
"""The template of all that is beyond the bounds."""
_RECORDS_PER_DEVICE_MAX = 1_024
_RECORDS_PER_DEVICE_ALWAYS = 4
"""Records of a device that are kept even while those of all devices have reached `_RECORDS_MAX`."""
_RECORDS_MAX = 50_000
"""Records that wait to be saved: with the two below it bounds them to 45 MB."""
_KEY_BYTES_MAX = 512
"""Bytes of an action and its template, which a label of one letter makes longer than its topic."""
_TOPIC_LEVELS_MAX = 16


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """A device did something, or was refused it, `count` times."""

    device_id: str
    action: Action
    template: str
    """As `gateway.policy.engine.topic_generalisation` makes it, or `OVERFLOW`."""
    allowed: bool
    count: int
    """Decisions, not messages."""
    first_at: int
    """Unix seconds, as for `last_at`: when it was saved, some seconds after it was seen."""
    last_at: int


def _read(key: bytes) -> tuple[Action, str, bool]:
    """Action, template and whether it was allowed, of a key as `UsageRecorder._add` makes it."""
    text = key.decode()
    at = next(at for at, sign in enumerate(text) if sign in "+-")
    return Action(text[:at]), text[at + 1 :], text[at] == "+"


class UsageRecorder:
    """One for a process. What waits to be saved is taken, and put back when it could not be."""

    __slots__ = ("_record_count", "_uses")

    def __init__(self) -> None:
        self._uses: dict[str, dict[bytes, int]] = {}
        """By device and key (action, `+` or `-` for allowed or not, template) how often it was decided."""
        self._record_count = 0

    def record(self, identity: Identity, action: Action, topic: str, decision: Decision) -> None:
        """This was decided on a valid topic, or filter without its `$share/<group>/`."""
        if decision is RESERVED or decision is SERVICE:
            return  # rules have no part in it
        template = OVERFLOW
        if topic.count("/") < _TOPIC_LEVELS_MAX:
            template = template_of(topic, identity, decision.allow_rules)
        self._add(identity.device_id, action, template, 1, allowed=decision.allowed)

    def _add(self, device_id: str, action: Action, template: str, count: int, *, allowed: bool) -> None:
        uses = self._uses.get(device_id)
        if uses is None:
            uses = self._uses[device_id] = {}
        # As UTF-8: of text, one emoji would make every letter take four bytes.
        key = f"{action}{'+' if allowed else '-'}{template}".encode()
        if key not in uses:
            full = self._record_count >= _RECORDS_MAX and len(uses) >= _RECORDS_PER_DEVICE_ALWAYS
            if len(key) > _KEY_BYTES_MAX or len(uses) >= _RECORDS_PER_DEVICE_MAX or full:
                key = key[: len(action) + 1]  # the template is OVERFLOW
            self._record_count += key not in uses
        uses[key] = uses.get(key, 0) + count

    def take(self, most: int, now: int) -> list[UsageRecord]:
        """What waits, at most `most` of it; that of the devices that waited longest first.

        `now` in Unix seconds.
        """
        taken: list[UsageRecord] = []
        while self._uses and len(taken) < most:
            device_id = next(iter(self._uses))
            uses = self._uses[device_id]
            keys = list(islice(uses, most - len(taken)))
            taken += [UsageRecord(device_id, *_read(key), uses.pop(key), now, now) for key in keys]
            self._record_count -= len(keys)
            if not uses:
                del self._uses[device_id]
        return taken

    def forget(self, device_id: str) -> None:
        """Drop what waits of this device: a new one may get its id before that is saved."""
        self._record_count -= len(self._uses.pop(device_id, ()))

    def put_back(self, records: list[UsageRecord]) -> None:
        """These could not be saved."""
        for one in records:
            self._add(one.device_id, one.action, one.template, one.count, allowed=one.allowed)
