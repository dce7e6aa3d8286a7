"""What is asked of encrypt and decrypt is recorded, once a caller and topic, and again when it goes on."""

from __future__ import annotations

from harness.request_handler import Counter

from gateway.policy.engine.decision_recorder import RECORD_AGAIN_SECONDS
from gateway.policy.engine.policy import Action


def recorded(counter):
    found = counter.context.recorder.take(1_000, 0)
    return {(one.device_id, one.action, one.template, one.passage): one.count for one in found}


def test_both_rights_are_recorded_with_their_answer():
    here = Counter()
    sealed = here.ask("encrypt", topic="corner/other/x", message=1, who="other")
    for _ in range(3):
        here.ask("encrypt", topic="corner/other/x", message=1, who="other")
    here.ask("decrypt", message=sealed, who="other")
    here.ask("encrypt", topic="corner/svc/x", message=1, who="other")
    here.ask("auth", who="other")
    assert recorded(here) == {
        ("other", Action.ENCRYPT, "corner/{device}/x", "allowed"): 1,
        ("other", Action.DECRYPT, "corner/{device}/x", "allowed"): 1,
        ("other", Action.ENCRYPT, "corner/svc/x", "refused"): 1,
    }


def test_what_is_no_topic_is_not_recorded():
    here = Counter()
    here.ask("encrypt", topic="a/+/b", message=1)
    sealed = here.ask("encrypt", topic="a", message=1)
    recorded(here)
    for topic in ("a/#", "", "\ud800", "a\0"):
        here.ask("decrypt", message={**sealed, "topic": topic})
    assert recorded(here) == {}


def test_what_goes_on_for_long_is_recorded_again():
    here = Counter()
    for seconds, times in ((0, 1), (RECORD_AGAIN_SECONDS - 1, 0), (1, 1), (1, 0)):
        here.now += seconds * 1_000
        here.ask("encrypt", topic="a", message=1)
        assert sum(recorded(here).values()) == times
