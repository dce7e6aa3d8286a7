"""What the devices did and were refused, counted by topic template until somebody saves it.

Each decision is recorded where it is made: once per topic and connection, not per message. Bounded per device
and in all; what exceeds the bounds is counted under the template `OVERFLOW`. It keeps no payload and no topic
as it was sent, and has no clock.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice

from gateway.policy.engine.identity import Identity
from gateway.policy.engine.policy import RESERVED, SERVICE
from gateway.policy.engine.rules import Action, Decision
from gateway.policy.engine.topic_generalisation import template_of
from gateway.policy.engine.usage_record import OVERFLOW, Passage, UsageRecord

RECORD_AGAIN_SECONDS = 600
"""What a device keeps doing is recorded again after this many seconds, lest it look as if it had stopped."""
_RECORDS_PER_DEVICE_MAX = 1_024
"""Records of one device that wait to be saved."""
_RECORDS_PER_DEVICE_ALWAYS = 4
"""Records of a device that are kept even while those of all devices have reached `_RECORDS_MAX`."""
_RECORDS_MAX = 50_000
"""Records of all devices that wait to be saved: with the two below it bounds their memory to 45 MB."""
_RECORDS_OF_A_TURN = 8
"""Records that are taken of one device before it is the turn of the next."""
_KEY_BYTES_MAX = 512
"""Bytes of an action and its template. A template may be longer than its topic: `{label.a}` may stand for one
letter."""
_TOPIC_LEVELS_MAX = 16
"""Levels of a topic that is recorded by its template."""


_SIGN = {Passage.ALLOWED: "+", Passage.OBSERVED: "~", Passage.REFUSED: "-"}
"""What stands for a passage in a key; no action has one of these in its name."""
_PASSAGE = {sign: passage for passage, sign in _SIGN.items()}


def _read(key: bytes) -> tuple[Action, str, Passage]:
    """Action, template and passage, from a key that `UsageRecorder._add` made."""
    text = key.decode()
    at = next(at for at, character in enumerate(text) if character in _PASSAGE)
    return Action(text[:at]), text[at + 1 :], _PASSAGE[text[at]]


class UsageRecorder:
    """One per process. What waits to be saved is taken out, and put back if it could not be saved."""

    __slots__ = ("_record_count", "_uses")

    def __init__(self) -> None:
        self._uses: OrderedDict[str, dict[bytes, int]] = OrderedDict()
        """How often it was decided, by device and key (action, sign of the passage, template)."""
        self._record_count = 0

    def record(
        self, identity: Identity, action: Action, topic: str, decision: Decision, *, observed: bool = False
    ) -> None:
        """Count this decision, on a valid topic name or on a filter without its `$share/<group>/`.

        `observed` says of a refusal that it passed all the same, because the device is observed.
        """
        if decision is RESERVED or decision is SERVICE:
            return  # rules have no part in it
        template = OVERFLOW
        if topic.count("/") < _TOPIC_LEVELS_MAX:
            template = template_of(topic, identity, decision.allow_rules)
        refusal = Passage.OBSERVED if observed else Passage.REFUSED
        passage = Passage.ALLOWED if decision.allowed else refusal
        self._add(identity.device_id, action, template, passage, 1)

    def _add(self, device_id: str, action: Action, template: str, passage: Passage, count: int) -> None:
        uses = self._uses.get(device_id)
        if uses is None:
            uses = self._uses[device_id] = {}
        # As UTF-8: of text, one emoji would make every letter take four bytes.
        key = f"{action}{_SIGN[passage]}{template}".encode()
        if key not in uses:
            full = self._record_count >= _RECORDS_MAX and len(uses) >= _RECORDS_PER_DEVICE_ALWAYS
            if len(key) > _KEY_BYTES_MAX or len(uses) >= _RECORDS_PER_DEVICE_MAX or full:
                key = key[: len(action) + 1]  # the template is OVERFLOW
            self._record_count += key not in uses
        uses[key] = uses.get(key, 0) + count

    def take(self, most: int, now: int) -> list[UsageRecord]:
        """Take out at most `most` records: some of each device by turns, so that none waits for another's.

        `now`, in Unix seconds, becomes the time of the records.
        """
        taken: list[UsageRecord] = []
        while self._uses and len(taken) < most:
            device_id, uses = self._uses.popitem(last=False)
            keys = list(islice(uses, min(_RECORDS_OF_A_TURN, most - len(taken))))
            taken += [UsageRecord(device_id, *_read(key), uses.pop(key), now, now) for key in keys]
            self._record_count -= len(keys)
            if uses:
                self._uses[device_id] = uses  # behind the others
        return taken

    def forget(self, device_id: str) -> None:
        """Drop what is not saved yet of a removed device: a new one may get its id before it is."""
        self._record_count -= len(self._uses.pop(device_id, ()))

    def put_back(self, records: list[UsageRecord]) -> None:
        """Take back what could not be saved."""
        for one in records:
            self._add(one.device_id, one.action, one.template, one.passage, one.count)
