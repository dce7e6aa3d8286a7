"""The audit event that certificates were made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.admin.audit_events import record
from gateway.connection.audit_vocabulary import changed_certificate

if TYPE_CHECKING:
    from gateway.store import Store


async def record_made(store: Store, path: str, *, actor: str) -> None:
    """Record that a certificate was made, as by `gateway-admin init`. Raises StoreError."""
    async with store.transaction() as tx:
        await record(tx, changed_certificate(f"{path} made"), actor=actor)
