"""Which tokens were issued, with a real store."""

from __future__ import annotations

import asyncio

import pytest
from harness.background_tasks import beside
from harness.failing_store import Failing
from harness.stored_devices import add_devices

from gateway.app.savers.issued_tokens import IssuedTokensSaver
from gateway.observe.save_failures import Saves
from gateway.store import IssuedToken


@pytest.fixture
async def store(store):
    await add_devices(store, "lamp-1")
    return store


def record(number):
    return IssuedToken(f"t{number}", "lamp-1", f"t{number}", 1, number, 2**40, "auth")


class Office:
    """Issues tokens, as far as their records go."""

    def __init__(self):
        self.issued = []

    def unsaved(self):
        return tuple(self.issued)

    def saved(self, count):
        del self.issued[:count]


async def test_tokens_that_were_issued_are_recorded_without_being_asked(store, monkeypatch):
    monkeypatch.setattr(IssuedTokensSaver, "seconds", 0.01)
    token_issuer = Office()
    async with beside(IssuedTokensSaver(store, token_issuer, Saves()).run()), asyncio.timeout(20):
        for number in range(3):
            token_issuer.issued.append(record(number))
            while await store.tokens.read() != [record(one) for one in range(number + 1)]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_records_that_can_not_be_saved_are_kept(store):
    token_issuer, failing = Office(), Failing(store)
    records = IssuedTokensSaver(failing, token_issuer, Saves())
    for number in range(5):
        token_issuer.issued.append(record(number))
        await records.save()
    assert await store.tokens.read() == []
    failing.fails = False
    await records.save()
    assert await store.tokens.read() == [record(number) for number in range(5)]
    await records.save()
    assert len(await store.tokens.read()) == 5
