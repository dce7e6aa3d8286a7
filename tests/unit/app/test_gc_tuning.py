"""When everything is looked through, with the real collector."""

from __future__ import annotations

import gc
import sys
import weakref

import pytest
from harness.background_tasks import beside, until

from gateway.app import gc_tuning as module
from gateway.app.gc_tuning import FullCollections


@pytest.fixture
def full_collections():
    """Those of this process, and how many there were since."""
    before, runs = gc.get_threshold(), []

    def noted(phase, info):
        if phase == "stop" and info["generation"] == 2:
            runs.append(info)

    collections = FullCollections()
    gc.callbacks.append(noted)
    yield collections, runs
    gc.callbacks.remove(noted)
    gc.set_threshold(*before)
    gc.unfreeze()


class Knot:
    """Refers to itself, so that only a collection frees it."""

    def __init__(self):
        self.itself = self


async def test_nobody_waits_for_a_full_collection_while_a_policy_is_read(full_collections):
    collections, runs = full_collections
    read = [[number] for number in range(sys.getallocatedblocks())]
    collections.look()
    assert len(runs) == 1  # as it should: there is twice as much
    del read
    read = [[number] for number in range(sys.getallocatedblocks() // 2)]
    collections.look()
    assert len(runs) == 1
    del read


def test_what_survived_one_look_is_not_looked_at_again_without_a_reason(full_collections):
    again = []

    def noted(phase, info):
        if phase == "stop" and info["generation"] == 1:
            again.append(info)

    gc.callbacks.append(noted)
    try:
        kept = [[number] for number in range(30 * gc.get_threshold()[0])]
    finally:
        gc.callbacks.remove(noted)
    assert not again
    del kept


async def test_what_only_a_full_collection_frees_is_never_more_than_the_rest(full_collections, monkeypatch):
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.01)
    collections, runs = full_collections
    knot = Knot()
    gone = weakref.ref(knot)
    gc.collect(1)  # it is old now
    del knot
    collections.look()
    assert gone() is not None
    many = [object() for _ in range(sys.getallocatedblocks())]
    async with beside(collections.run()):
        await until(lambda: gone() is None)
    assert len(runs) == 1
    del many
