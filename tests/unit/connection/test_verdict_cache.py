"""The verdicts a connection remembers: what they say of a topic, and their bounds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.connection import verdict_cache as module
from gateway.connection.verdict_cache import CachedVerdict, keep, topic_text
from gateway.mqtt.errors import MalformedPacket
from gateway.policy.engine.policy import Decision, Rule
from gateway.policy.engine.rules import Action, Effect


def decision(*, allowed=True, **conditions):
    grant = Rule(Effect.ALLOW, frozenset(Action), "#", **conditions)
    return Decision(allowed=allowed, reason="", rule=grant, allow_rules=(grant,) if allowed else ())


def test_plain_is_what_needs_no_look_at_the_single_message():
    assert CachedVerdict("t", decision(), sensitive=False).passes_always
    assert not CachedVerdict("t", decision(), sensitive=True).passes_always
    for doubt in (
        decision(allowed=False),
        decision(max_qos=1),
        decision(retain=False),
        decision(max_payload=9),
    ):
        cached = CachedVerdict("t", doubt, sensitive=False)
        assert cached.conditional
        assert not cached.passes_always
    assert not CachedVerdict("t", decision(), sensitive=True).conditional


def test_verdicts_are_bounded_in_number_and_in_size():
    known: dict[bytes, CachedVerdict] = {}
    cached = CachedVerdict("t", decision(), sensitive=False)
    for number in range(5_000):
        assert keep(known, b"%d" % number, cached) is cached
        assert len(known) <= module._VERDICTS_MAX
    assert b"4999" in known
    long = b"x" * (module._TOPIC_BYTES_MAX + 1)
    assert keep(known, long, cached) is cached
    assert long not in known
    assert keep(known, long[1:], cached) is known[long[1:]]


@given(st.lists(st.sampled_from([1, 100, 128, 129, 500, 1_024]), min_size=200, max_size=1_000))
@settings(max_examples=20)
def test_long_topics_are_bounded_by_their_bytes(sizes):
    """256 of a kilobyte each, in three lists of each connection, and as text up to four times as long."""
    known: dict[bytes, CachedVerdict] = {}
    cached = CachedVerdict("t", decision(), sensitive=False)
    for number, size in enumerate([1_024] * 200 + sizes):
        keep(known, (b"%d" % number).ljust(size, b"x"), cached)
        assert sum(map(len, known)) <= 65_536


def test_topics_are_text():
    assert topic_text("grüße/日本".encode()) == "grüße/日本"
    for bad in (b"", b"a/+", b"#", b"a\0", b"\xff", b"\xed\xa0\x80", b"/" * 65_000):
        with pytest.raises(MalformedPacket):
            topic_text(bad)
