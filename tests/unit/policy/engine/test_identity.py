"""Names of devices and labels: one topic level, and nothing that could widen a rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.engine.identity import (
    OBSERVE_MAX,
    Device,
    Grant,
    Identity,
    is_device_id,
    is_label,
    is_observed,
)


@pytest.mark.parametrize("name", ["a", "9", "lamp-1", "A.b_c-d", "x" * 64])
def test_device_ids(name):
    assert is_device_id(name)


@pytest.mark.parametrize(
    "name",
    ["", "-a", ".a", "_a", "a/b", "a+", "#", "$SYS", "a b", "ä", "a\n", "a\0", "x" * 65, "{device}", "٣"],
)
def test_what_is_no_device_id(name):
    assert not is_device_id(name)


@given(st.text(max_size=5))
def test_a_device_id_never_holds_what_means_something_in_a_topic(name):
    if is_device_id(name):
        assert not set(name) & set("/+#$\0{} \n")
    if is_label("room", name):
        assert name
        assert not set(name) & set("/+#$\0\n")
        name.encode()


@pytest.mark.parametrize(
    ("name", "value"), [("room", "kitchen"), ("a1_b", "1. Stock"), ("r", "x" * 64), ("r", "日本")]
)
def test_labels(name, value):
    assert is_label(name, value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Room", "x"),
        ("1", "x"),
        ("", "x"),
        ("a-b", "x"),
        ("r", ""),
        ("r", "a/b"),
        ("r", "+"),
        ("r", "x" * 65),
        ("r", "\ud800"),
    ],
)
def test_what_is_no_label(name, value):
    assert not is_label(name, value)


def test_a_credential_does_not_show():
    device = Device("lamp-1", (), {}, True, "$argon2id$hidden", 1, 0, 0)
    assert "hidden" not in repr(device)


def test_a_narrow_token_has_a_namespace_that_no_device_can_have():
    grant = Grant("t", "t", 0, 0, 1, {}, narrowed_digest="0a" * 16)
    device = Identity("lamp-1", (), {}, "c", Grant("t", "t", 0, 0, 1, {}))
    narrow = Identity("lamp-1", (), {}, "c", grant)
    assert (device.namespace, narrow.namespace) == ("lamp-1", f"lamp-1~{'0a' * 16}")
    assert not is_device_id(narrow.namespace)
    assert Identity("lamp-1", (), {}, "c").namespace == "lamp-1"


@pytest.mark.parametrize(
    ("now", "so"), [(0, True), (99.9, True), (100, False), (-OBSERVE_MAX, False), (100 - OBSERVE_MAX, True)]
)
def test_a_device_is_observed_for_as_long_as_it_may_be(now, so):
    assert is_observed(100, now) is so


def test_an_end_that_a_clock_set_which_ran_ahead_is_none():
    """A year ahead for a moment, it would be observed for a year: nearly without rules."""
    now = 1_764_000_000
    assert not is_observed(now + 365 * 86_400 + 60, now)
