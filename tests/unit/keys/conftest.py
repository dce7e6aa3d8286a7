"""Argon2id that is quick: what is tested here is what becomes of a key, not how long a guess at one takes."""

from __future__ import annotations

import pytest
from argon2 import low_level


@pytest.fixture(autouse=True)
def quick_argon2(monkeypatch):
    """One pass over a hundredth of the memory; `test_wrapping` has what is asked of it for users."""
    hash_secret_raw = low_level.hash_secret_raw

    def quick(secret, salt, **named):
        passes, memory = named.pop("time_cost"), named.pop("memory_cost")
        salt += bytes(f"{passes} {memory}", "ascii")
        return hash_secret_raw(secret, salt, time_cost=1, memory_cost=memory // 128, **named)

    monkeypatch.setattr(low_level, "hash_secret_raw", quick)
