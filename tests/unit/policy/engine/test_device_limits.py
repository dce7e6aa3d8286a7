"""The bounds of one device by its roles: the largest that is said, never above limits.toml."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.engine.device_limits import NOT_IN_ROLES, ROLE_LIMIT_NAMES
from gateway.policy.engine.limits import LIMITS_FILE, Limits
from gateway.policy.engine.policy import Policy, Role

ROLES = ("a", "b", "c", "d")
SAID = st.dictionaries(st.sampled_from(ROLE_LIMIT_NAMES[:4]), st.integers(1, 200_000), max_size=3)


def policy(limits, includes=None, **whole):
    roles = [
        Role(
            name,
            "",
            (),
            includes=tuple((includes or {}).get(name, ())),
            limits=said,
            locations={key: f"{name}:{key}" for key in said},
        )
        for name, said in limits.items()
    ]
    return Policy(roles, sensitive=(), limits=Limits(**whole), reserved="g")


def all_included(name, includes):
    seen, waiting = set(), [name]
    while waiting:
        one = waiting.pop()
        if one not in seen:
            seen.add(one)
            waiting += includes.get(one, ())
    return seen


@given(
    st.fixed_dictionaries(dict.fromkeys(ROLES, SAID)),
    st.dictionaries(st.sampled_from(ROLES), st.lists(st.sampled_from(ROLES), max_size=2), max_size=4),
    st.lists(st.sampled_from([*ROLES, "gone"]), unique=True),
)
def test_the_largest_over_all_roles_counts_and_silence_takes_no_part(limits, includes, roles):
    made, whole = policy(limits, includes, bytes_per_second=1_000), Limits(bytes_per_second=1_000)
    found = made.limits_of(tuple(roles))
    held = {one for name in roles if name != "gone" for one in all_included(name, includes)}
    for key in dataclasses.fields(Limits):
        said = [limits[name][key.name] for name in held if key.name in limits[name]]
        most = getattr(whole, key.name)
        assert getattr(found, key.name) == (min(max(said), most) if said else most)
        if said:
            assert (
                found.location(key.name)
                == (
                    LIMITS_FILE
                    if max(said) > most
                    else next(
                        f"{name}:{key.name}"
                        for name in sorted(held)
                        if limits[name].get(key.name) == max(said)
                    )
                )
                or said.count(max(said)) > 1
            )
        else:
            assert found.location(key.name) == LIMITS_FILE


def test_without_a_word_it_is_that_of_limits_toml_itself():
    made = policy({"a": {}})
    assert made.limits_of(("a",)) is made.limits
    assert made.limits_of(()) is made.limits
    assert made.limits.subscriptions_in_all is None
    assert made.limits.effort_per_second == made.limits.heard_effort_per_second == 100_000


def test_every_limit_either_may_stand_in_a_role_or_says_why_not():
    names = {field.name for field in dataclasses.fields(Limits)}
    assert names == {*ROLE_LIMIT_NAMES} | NOT_IN_ROLES.keys()
    assert not {*ROLE_LIMIT_NAMES} & NOT_IN_ROLES.keys()


def test_work_is_bounded_by_the_messages_but_not_to_nothing():
    made = policy({"a": {"messages_per_second": 5}, "b": {"messages_per_second": 2_000}})
    assert made.limits_of(("a",)).effort_per_second == 10_000
    assert made.limits_of(("b",)).effort_per_second == 20_000
    assert made.limits_of(("a",)).heard_effort_per_second == 100_000
    low = policy({"a": {"messages_per_second": 5}}, messages_per_second=40)
    assert low.limits_of(("a",)).effort_per_second == 40, "never above limits.toml"


def test_subscriptions_of_a_role_are_of_the_device():
    made = policy({"a": {"subscriptions": 5}, "b": {}})
    assert made.limits_of(("a", "b")).subscriptions_in_all == 5
    assert made.limits_of(("b",)).subscriptions_in_all is None
