"""What SECURITY.md says of hiding: allowances apart, the first of each device always, the rest counted."""

from __future__ import annotations

import sys

from gateway.connection.audit_vocabulary import Kind, Outcome, Source
from gateway.observe.audit_event import AuditEvent
from gateway.observe.audit_rate_limit import (
    FIRST_PER_KIND,
    PER_DEVICE_MAX,
    PER_PLACE_MAX,
    PLACES_MAX,
    RULES_AND_TOPICS,
    STRANGERS,
    AuditRateLimit,
    LeftOut,
    LeftOutCounts,
    Rate,
)

NOW = 1_764_000_000_000 - 1_764_000_000_000 % 60_000
"""The beginning of a minute."""


def refusal(topic="decoy/1", device="lamp-1", **changed):
    fields = {"kind": Kind.PUBLISH, "outcome": Outcome.REFUSED, "action": "publish"} | changed
    return AuditEvent(time=NOW, reason="why", device=device, address="10.0.0.1:1", topic=topic, **fields)


def stranger(address):
    return AuditEvent(
        time=NOW,
        kind=Kind.LOGIN,
        outcome=Outcome.REFUSED,
        reason="TLS",
        address=f"{address}:4711",
        source=Source.STRANGER,
    )


def empty():
    """A rate limit whose shares others have used up."""
    return AuditRateLimit(devices=Rate(0, 0))


def test_three_hundred_decoys_leave_the_real_attempt_told():
    rate_limit = AuditRateLimit()
    decoys = [refusal(f"devices/{number}/set") for number in range(300)]
    assert all(rate_limit.admits(one, NOW) for one in [*decoys, refusal("devices/lock-1/set")])


def test_the_first_of_each_kind_are_told_whatever_others_did():
    rate_limit = empty()
    for kind in (Kind.PUBLISH, Kind.SUBSCRIBE, Kind.DELIVERY):
        told = [rate_limit.admits(refusal(None, kind=kind), NOW) for _ in range(FIRST_PER_KIND + 3)]
        assert told == [True] * FIRST_PER_KIND + [False] * 3
    assert rate_limit.admits(refusal(None, outcome=Outcome.DONE), NOW), "another outcome"
    assert rate_limit.admits(refusal(None, "lamp-2"), NOW), "another device"
    assert rate_limit.admits(refusal(None), NOW + 60_000), "another minute"


def test_what_differs_from_all_decoys_is_told_after_any_number_of_them():
    rate_limit = AuditRateLimit()
    for number in range(100_000):
        rate_limit.admits(refusal(f"decoy/{number}"), NOW)
    assert not rate_limit.admits(refusal("decoy/more"), NOW)
    assert rate_limit.admits(refusal("locks/front"), NOW)
    assert rate_limit.admits(refusal("decoy/x", rule="acl/roles/lamp.toml:4"), NOW)
    assert not rate_limit.admits(refusal("locks/back"), NOW)


def test_roots_without_end_are_told_to_a_bound():
    rate_limit = empty()
    told = sum(rate_limit.admits(refusal(f"{number}/x"), NOW) for number in range(1_000))
    assert told == FIRST_PER_KIND + RULES_AND_TOPICS


def test_one_device_has_its_own_and_not_the_share_of_all():
    rate_limit = AuditRateLimit()
    flood = sum(rate_limit.admits(refusal(), NOW) for _ in range(10_000))
    assert flood == FIRST_PER_KIND + 1 + PER_DEVICE_MAX
    assert all(rate_limit.admits(refusal(f"locks/{number}", "lamp-2"), NOW) for number in range(301))


def test_the_share_of_all_fills_up_with_time():
    rate_limit = AuditRateLimit(devices=Rate(10, 5))
    for _ in range(100):
        rate_limit.admits(refusal(), NOW)
    assert sum(rate_limit.admits(refusal(), NOW + 1_000) for _ in range(100)) == 5
    assert sum(rate_limit.admits(refusal(), NOW + 30_000) for _ in range(100)) == 10
    assert sum(rate_limit.admits(refusal(), NOW + 1_000) for _ in range(100)) == 0, (
        "a clock set back gives nothing"
    )


def test_one_place_of_strangers_leaves_half_to_the_others():
    rate_limit = AuditRateLimit()
    loud = sum(rate_limit.admits(stranger("10.0.0.1"), NOW) for _ in range(10_000))
    assert loud == min(PER_PLACE_MAX, STRANGERS.burst // 2)
    others = sum(
        rate_limit.admits(stranger(f"10.1.0.{number}"), NOW) for number in range(STRANGERS.burst // 2)
    )
    assert others == STRANGERS.burst // 2


def test_what_the_house_does_is_told_always():
    rate_limit = empty()
    done = refusal(None, kind=Kind.DEVICE, outcome=Outcome.DONE, source=Source.HOUSE)
    assert all(rate_limit.admits(done, NOW) for _ in range(10_000))


def test_memory_is_bounded_by_the_devices_that_exist_and_by_so_many_places():
    rate_limit, tally = AuditRateLimit(), LeftOutCounts()
    for number in range(50_000):
        one = stranger(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
        rate_limit.admits(one, NOW)
        tally.count(one)
        claim = refusal(None, f"name-{number}", source=Source.STRANGER, kind=Kind.LOGIN)
        rate_limit.admits(claim, NOW)
        tally.count(claim)
    assert len(rate_limit._of_place) <= PLACES_MAX + 1
    assert len(rate_limit._of_device) == 0, "a name is no device"
    assert len(tally._counts) <= PLACES_MAX + 1
    assert sum(count for _, count in tally.take(sys.maxsize)) == 100_000
    assert tally._places == 0
    rate_limit.admits(refusal(), NOW + 60_000)
    assert len(rate_limit._of_place) == 0


def test_what_is_left_out_is_counted_by_device_and_kind():
    tally = LeftOutCounts()
    for device in ("lamp-1", "lamp-2"):
        for kind, count in ((Kind.PUBLISH, 2), (Kind.SUBSCRIBE, 1)):
            tally.count(refusal(device=device, kind=kind))
            tally.count(refusal(device=device, kind=kind, count=count))
    assert tally.take(1) == [(LeftOut("lamp-1", None, Kind.PUBLISH, Outcome.REFUSED), 3)]
    assert [count for _, count in tally.take(9)] == [2, 3, 2]
    assert tally.take(9) == []
