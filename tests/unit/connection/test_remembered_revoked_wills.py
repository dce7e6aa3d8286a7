"""What is kept of wills that a change of the rules took back."""

from __future__ import annotations

from gateway.connection.remembered_revoked_wills import PAIRS_MAX, RevokedWills


def test_only_what_was_taken_back_is_known():
    kept = RevokedWills()
    assert not kept.has("lamp-1", "a")
    kept.add("lamp-1", "a")
    assert kept.has("lamp-1", "a")
    assert not kept.has("lamp-1", "b")
    assert not kept.has("lamp-2", "a")


def test_it_is_bounded_and_the_oldest_go():
    kept = RevokedWills()
    for number in range(PAIRS_MAX):
        kept.add(str(number), "a")
    kept.add("0", "a")  # as new as any now
    kept.add("one more", "a")
    assert len(kept._keys) == PAIRS_MAX
    assert kept.has("0", "a")
    assert not kept.has("1", "a")
    assert kept.has("one more", "a")
