"""What tests of the store share: what waits there, and a store that fails."""

from __future__ import annotations

from gateway.store import StoreError


async def taken(store, most=100):
    """What waits, as a gateway takes it."""
    found = await store.admin_events.waiting(most=most)
    if found:
        await store.admin_events.forget(found[-1][0])
    return [event for _, event in found]


class Failing:
    """A store that can't be written for a while: a full disk can't be had in a test."""

    def __init__(self, store):
        self.store, self.fails = store, True

    def __getattr__(self, subject):
        class Repository:
            def __getattr__(_, name):  # noqa: N805 - `self` is the store
                async def call(*values, **named):
                    if self.fails:
                        raise StoreError("the disk is full")
                    return await getattr(getattr(self.store, subject), name)(*values, **named)

                return call

        return Repository()
