"""`gateway-admin keys rewrap`: seal again, under the active key, what the bus retains on sensitive topics."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable
from typing import TYPE_CHECKING

import typer

from gateway.cli.output import Failure, Json, answering, remark
from gateway.cli.progress_bars import progress_bars
from gateway.cli.settings_policy_store import Config, actor, policy_of, settings_of, store_of
from gateway.keys.key_kinds import KeyKind

if TYPE_CHECKING:
    from gateway.config import Settings
    from gateway.services.retained_resealing import ResealingOutcome

_UNREADABLE_SHOWN = 20
_ENVELOPE_ROOM = 2
"""A sealed packet is at most this many times as long as the plain one."""


def rewrap(as_json: Json = False, config: Config = None) -> None:
    """Re-seal under the active key what the bus retains on sensitive topics, so that older keys can go.

    Works beside a running gateway and its devices: a message that somebody publishes meanwhile stands.
    What is re-sealed keeps its sender and its time, and no gateway delivers it to those who have heard it
    before. Needs a bus that speaks MQTT 5. What nobody can open is listed and left as it is. Messages that
    wait in the bus for devices that are away are not reached: they open until their key is destroyed.

    Exit code 1: the bus is not there, does not show all that it retains, something is left under an older
    key, or something that was published meanwhile was overwritten and is too long to be put back.

    For example:

        gateway-admin keys rotate && gateway-admin keys rewrap
    """
    with answering(as_json=as_json) as answer:
        outcome = asyncio.run(_reseal(settings_of(config)))
        unreadable = [{"topic": topic, "reason": why} for topic, why in sorted(outcome.unreadable.items())]
        answer.give(
            {
                "resealed": outcome.resealed,
                "current": outcome.current,
                "changed": outcome.changed,
                "left": outcome.left,
                "lost": outcome.lost,
                "complete": outcome.complete,
                "unreadable": unreadable,
            },
            f"re-sealed    {outcome.resealed}",
            f"current      {outcome.current}",
            f"changed      {outcome.changed}",
            f"unreadable   {len(unreadable)}",
            *(f"  {one['topic']}: {one['reason']}" for one in unreadable[:_UNREADABLE_SHOWN]),
            *(["  … --json lists them all"] if len(unreadable) > _UNREADABLE_SHOWN else []),
        )
        if outcome.left:
            remark(f"{outcome.left} are still under an older key: run this again before one is destroyed")
        if outcome.lost:
            remark(
                f"{outcome.lost} that came meanwhile were overwritten by an older message, and are too long "
                "to be put back: publish them again"
            )
        if not outcome.complete:
            remark(
                "the bus did not show all that it retains, for it drops what it can't send at once: raise "
                "max_queued_messages in its configuration (see deploy/mosquitto.conf) and run this again"
            )
        if outcome.left or outcome.lost or not outcome.complete:
            raise typer.Exit(1)


async def _reseal(settings: Settings) -> ResealingOutcome:
    from gateway.admin.keys import keys_of, reseal
    from gateway.app.vm_clone_detection import SnapshotWatch, random_bytes
    from gateway.bus_client.connect import connect
    from gateway.bus_client.connection import Account, BusConnection, BusError, Handler
    from gateway.keys.key_ring import KeyRing, Nonces
    from gateway.net.bus_endpoint import Bus
    from gateway.net.tls_contexts import bus_context
    from gateway.services.retained_resealing import reseal_retained

    policy = policy_of(settings)
    keys = keys_of(settings, KeyKind.SEALING)
    address = settings.bus
    if address is None:
        raise Failure("MQTT_BROKER is not set: the embedded bus forgets what it retains by itself")
    bus = Bus(
        address.host, address.port, bus_context(settings.mqtt_ca_path) if settings.mqtt_ca_path else None
    )
    account = Account(
        # No device's client id begins with a slash.
        f"/rewrap/{uuid.uuid4()}",
        settings.mqtt_username.encode() if settings.mqtt_username is not None else None,
        settings.mqtt_password.reveal() if settings.mqtt_password is not None else None,
    )

    limit = policy.limits.packet_size

    async def open_connection(handler: Handler) -> BusConnection:
        # Whatever the bus retains is read as fast as it is sent: it drops what has to wait.
        return await connect(bus, account, handler, max_size=_ENVELOPE_ROOM * limit, backlog=1 << 40)

    async with store_of(settings) as store:
        ring = KeyRing(keys, Nonces(random_bytes), await store.key_uses.read())
        snapshots = SnapshotWatch(ring.renew_nonces)
        try:
            with progress_bars() as bars:
                bar = bars.add_task("re-sealing", total=None)

                def progress(done: int, total: int) -> None:
                    snapshots.look()
                    bars.update(bar, completed=done, total=total)

                def seal_again() -> Awaitable[ResealingOutcome]:
                    return reseal_retained(
                        open_connection,
                        ring,
                        policy.sensitive_filters,
                        end_topic=f"{settings.service_topic_prefix}/rewrap/{uuid.uuid4()}",
                        progress=progress,
                    )

                return await reseal(store, seal_again, actor=actor())
        except BusError as error:
            raise Failure(f"the bus at {address}: {error}") from None
        finally:
            # If this is killed before, these uses are never counted: USES_MAX leaves room for that.
            for key_id, count in ring.take_unsaved_uses().items():
                await store.key_uses.add(key_id, count)
