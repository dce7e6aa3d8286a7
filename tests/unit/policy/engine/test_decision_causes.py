"""Each decision has one cause, in one word."""

import pytest

from gateway.policy.engine.decision_causes import Cause, cause_of
from gateway.policy.engine.policy import MISSING_ROLE, NO_ROLE, NO_RULE, NOT_IN_TOKEN, RESERVED, SERVICE
from gateway.policy.engine.rules import Action, Decision, Effect, Rule

ALLOW = Rule(Effect.ALLOW, frozenset({Action.PUBLISH}), "a", max_qos=0)
DENY = Rule(Effect.DENY, frozenset({Action.PUBLISH}), "a")


@pytest.mark.parametrize(
    ("decision", "cause"),
    [
        (Decision(True, "", ALLOW, (ALLOW,)), Cause.RULE),
        (Decision(False, "", DENY), Cause.RULE),
        (Decision(True, "", ALLOW, (ALLOW,)).with_message(1, False, 1), Cause.MESSAGE),
        (NO_RULE[Action.PUBLISH], Cause.NO_RULE),
        (NO_ROLE, Cause.NO_ROLE),
        (MISSING_ROLE, Cause.NO_ROLE),
        (NOT_IN_TOKEN[Action.SUBSCRIBE], Cause.TOKEN),
        (RESERVED, Cause.RESERVED),
        (SERVICE, Cause.RESERVED),
        (Decision(False, "The topic of the will has become sensitive.", None), Cause.OTHER),
    ],
)
def test_causes(decision, cause):
    assert cause_of(decision) is cause
