"""A level that may mean two things means what explains most devices."""

from __future__ import annotations

from harness.label_notation import labels_of

from gateway.policy.engine.identity import Identity
from gateway.policy.engine.policy import Action
from gateway.policy.usage.placeholder_inference import with_placeholders

PUBLISH = Action.PUBLISH


def who(device_id, **labels):
    return Identity(device_id, ("r",), labels_of(labels), "c")


def names(*uses):
    return with_placeholders(
        [(identity, PUBLISH, template, tuple(rules)) for identity, template, *rules in uses]
    )


def test_what_was_recorded_is_kept_when_nothing_speaks_against_it():
    assert names((who("a", room="k"), "x/{device}/{label.room}/a"), (who("b"), "x/#")) == [
        "x/{device}/{label.room}/a",
        "x/#",
    ]
    assert names((who("a", room="a"), "x/{device}")) == ["x/{device}"]


def test_one_whose_id_is_its_label_too_means_what_the_others_mean():
    """`kitchen` in the room `kitchen`: recorded as the device, and the others show that it is the room."""
    uses = [(who("kitchen", room="kitchen"), "rooms/{device}")]
    uses += [(who(name, room=name * 2), "rooms/{label.room}") for name in "ab"]
    assert names(*uses) == ["rooms/{label.room}"] * 3


def test_a_word_that_is_a_label_of_one_by_chance_is_a_word():
    uses = [(who("a", kind="state"), "{device}/{label.kind}")]
    uses += [(who(name, kind="other"), "{device}/state") for name in "bc"]
    assert names(*uses) == ["{device}/state"] * 3


def test_a_place_that_all_write_to_is_no_one_s_own():
    uses = [(who("hub"), "{device}/inbox"), *((who(name), "hub/inbox") for name in "ab")]
    assert names(*uses) == ["hub/inbox"] * 3
    # Unless each has one.
    uses += [(who(name), "{device}/inbox") for name in "abcd"]
    assert names(*uses) == ["{device}/inbox", "hub/inbox", "hub/inbox", *["{device}/inbox"] * 4]


def test_a_label_that_looks_like_a_group_stays_a_label():
    """As a word, alone in a rule of a file, it would be the group of that name."""
    uses = [(who("a", x="@g"), "{label.x}"), (who("b", y="@g"), "{label.y}")]
    assert names(*uses) == ["{label.x}", "{label.y}"]


def test_what_is_explained_already_speaks_for_nothing_more():
    uses = [(who("a"), "x/w"), (who("b"), "x/w")]
    uses += [(who("c", a="w"), "x/{label.a}"), (who("d", a="w"), "x/{label.a}")]
    uses += [(who("e", a="v", b="v"), "x/{label.a}"), (who("f", b="u"), "x/{label.b}")]
    assert names(*uses) == [*["x/w"] * 4, *["x/{label.b}"] * 2]


def test_actions_are_apart():
    uses = [(who("hub"), PUBLISH, "{device}", ()), (who("a"), Action.SUBSCRIBE, "hub", ())]
    uses += [(who("b"), Action.SUBSCRIBE, "hub", ())]
    assert with_placeholders(uses) == ["{device}", "hub", "hub"]


def test_a_client_id_stays_what_a_rule_said_it_is():
    assert names((who("a", room="c"), "x/{client}"), (who("a", room="c"), "x/{label.room}")) == [
        "x/{client}",
        "x/{label.room}",
    ]


def test_many_meanings_are_left_as_they_were_recorded():
    labels = {f"l{number}": "same" for number in range(9)}
    template = "/".join(["{label.l0}"] * 9)
    assert names((who("a", **labels), template)) == [template]


def test_a_label_with_a_brace_is_not_written_out():
    """It would stand in a rule as a placeholder, of which `rooms/{device}` is anybody's."""
    odd = who("a", room="{device}", zone="{device}")
    uses = [(odd, "rooms/{label.room}"), (odd, "rooms/{label.zone}")]
    uses += [(who(name), "rooms/{device}") for name in "bc"]
    uses += [(who(name), "rooms/+{device}") for name in "de"]
    assert names(*uses) == [
        *["rooms/{label.room}"] * 2,
        *["rooms/{device}"] * 2,
        *["rooms/+{device}"] * 2,
    ]


def test_ten_thousand_devices_are_no_trouble():
    uses = [
        (who(f"d{number}", room=f"r{number % 50}"), "rooms/{label.room}/{device}") for number in range(10_000)
    ]
    uses += [(who(f"d{number}"), f"jobs/{number}") for number in range(2_000)]
    found = names(*uses)
    assert set(found[:10_000]) == {"rooms/{label.room}/{device}"}
    assert found[10_000:] == [f"jobs/{number}" for number in range(2_000)]
