"""Who was refused lately, with a real store."""

from __future__ import annotations

from gateway.app.savers import saver
from gateway.app.savers.recent_refusals import RecentRefusalsSaver
from gateway.connection.audit_vocabulary import Kind, Outcome, Source
from gateway.observe.audit_event import AuditEvent
from gateway.observe.recent_refusals import RefusedClients
from gateway.observe.save_failures import Saves
from gateway.store.wall_clock import now


async def test_much_is_saved_by_small_batches_with_a_pause_between(store, monkeypatch):
    """Kind: what strangers cause is saved at once, and messages wait for it."""
    clients, sizes = RefusedClients(lambda: now() * 1_000), []
    save, pause = store.refused_clients.save, saver.until_next_multiple_of

    async def counted(entries):
        sizes.append(len(entries))
        await save(entries)

    async def paused(seconds):
        sizes.append(seconds)
        await pause(0.01)

    monkeypatch.setattr(store.refused_clients, "save", counted)
    monkeypatch.setattr(saver, "until_next_multiple_of", paused)
    for number in range(100):
        clients(
            AuditEvent(
                time=now() * 1_000,
                kind=Kind.LOGIN,
                outcome=Outcome.REFUSED,
                reason="wrong secret",
                address=f"192.0.2.{number}:1883",
                source=Source.STRANGER,
            )
        )
    await RecentRefusalsSaver(store, clients, Saves()).save_round()
    assert sizes == [40, 0.16, 40, 0.16, 20, 0.16]
    assert len(await store.refused_clients.read()) == 100
