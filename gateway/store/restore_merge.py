"""What a backup may bring back of the devices, and what it may not: later decisions against a device win.

Every device's `token_epoch` moves, so that no token from before the restore is good, whoever has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlalchemy import delete, select, update

from gateway.policy.engine.identity import Device, written_labels
from gateway.store import bus_holdings, denial_explanations, tokens, usage
from gateway.store.change_log import log_change
from gateway.store.schema import devices
from gateway.store.schema import tokens as tokens_table
from gateway.store.transactions import Transactions

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(slots=True)
class Merged:
    """What a restore did, as ids of devices."""

    restored: list[str] = field(default_factory=list)
    """Those that have the roles and labels of the backup again."""
    stay_removed: list[str] = field(default_factory=list)
    """Those that were removed since the backup."""
    stay_disabled: list[str] = field(default_factory=list)
    """Those that were disabled since the backup."""
    keep_secret: list[str] = field(default_factory=list)
    """Those that got a different secret since the backup, which they keep."""
    taken_away: list[str] = field(default_factory=list)
    """Those that were added since the backup, and that the restore has removed."""


class RestoredDevices:
    """The devices of a restore. Each method is a transaction, or a part of the one it is called in."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def merge(self, backup: Sequence[Device]) -> Merged:
        """Return to the devices of a backup, in the store that it was made of, which has changed since.

        A device keeps its present secret: the one in the backup may have been changed because others know it.
        """
        merged = Merged()
        backed_up = {device.device_id: device for device in backup}
        async with self._transactions.transaction(write=True) as connection:
            rows = (await connection.execute(select(devices).order_by(devices.c.device_id))).all()
            stored = {row.device_id: row for row in rows}
            merged.stay_removed = sorted(backed_up.keys() - stored.keys())
            for device_id, row in stored.items():
                device = backed_up.get(device_id)
                if device is None:
                    await _take_away(connection, device_id)
                    merged.taken_away.append(device_id)
                    continue
                if device.enabled and not row.enabled:
                    merged.stay_disabled.append(device_id)
                if device.credential != row.credential:
                    merged.keep_secret.append(device_id)
                seq, now = await log_change(connection, device_id)
                await connection.execute(
                    update(devices)
                    .where(devices.c.device_id == device_id)
                    .values(
                        roles=list(device.roles),
                        labels=written_labels(device.labels),
                        enabled=row.enabled and device.enabled,
                        token_epoch=seq,
                        version=devices.c.version + 1,
                        updated_at=now,
                    )
                )
                merged.restored.append(device_id)
            await connection.execute(delete(tokens_table))
        return merged

    async def begin_anew(self, *, enabled: bool) -> list[str]:
        """Make the store of a backup ready for use on this machine. Returns the ids of its devices.

        Without `enabled` all are disabled, for which of them were disabled after the backup is not known.
        """
        async with self._transactions.transaction(write=True) as connection:
            rows = (await connection.execute(select(devices.c.device_id, devices.c.enabled))).all()
            for row in rows:
                seq, now = await log_change(connection, row.device_id)
                await connection.execute(
                    update(devices)
                    .where(devices.c.device_id == row.device_id)
                    .values(
                        enabled=row.enabled and enabled,
                        observe_until=0,
                        token_epoch=seq,
                        version=devices.c.version + 1,
                        updated_at=now,
                    )
                )
            await connection.execute(delete(tokens_table))
        return sorted(row.device_id for row in rows)


async def _take_away(connection: AsyncConnection, device_id: str) -> None:
    await log_change(connection, device_id)
    await tokens.forget(connection, device_id, records=True)
    await usage.forget(connection, device_id)
    await denial_explanations.forget(connection, device_id)
    await bus_holdings.forget(connection, [device_id])
    await connection.execute(delete(devices).where(devices.c.device_id == device_id))
