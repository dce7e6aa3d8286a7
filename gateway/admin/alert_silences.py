"""Silences: an administrator says of which alerts nobody is notified for a while, and why."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gateway.admin.audit_events import record
from gateway.admin.errors import Refused
from gateway.connection.audit_vocabulary import changed_silence
from gateway.store.alerts import Silence
from gateway.system.utc_text import utc_text

if TYPE_CHECKING:
    from gateway.store import Store

COMMENT_MAX = 200
"""Characters."""
_SILENCES_MAX = 1_000
"""Silences that are in force at once."""


async def silence(
    store: Store, *, rule: str, labels: Mapping[str, str], seconds: int, comment: str, actor: str
) -> Silence:
    """Have nobody notified of alerts of this rule (empty: of any) with all of these labels.

    Raises Refused.
    """
    if len(comment) > COMMENT_MAX or not comment.isprintable():
        raise Refused(f"a comment is one line of {COMMENT_MAX} characters at most", usage_error=True)
    now = int(datetime.now(UTC).timestamp())
    made = Silence(secrets.token_hex(4), rule, dict(labels), now, now + seconds, comment, actor)
    async with store.transaction() as tx:
        if sum(one.until > now for one in await tx.alerts.silences()) >= _SILENCES_MAX:
            raise Refused(
                f"there are {_SILENCES_MAX} silences: end some with `gateway-admin alerts unsilence`"
            )
        await tx.alerts.silence(made)
        why = f": {comment}" if comment else ""
        await record(
            tx, changed_silence(f"silenced until {utc_text(made.until)}: {words_of(made)}{why}"), actor=actor
        )
    return made


async def unsilence(store: Store, silence_id: str, *, actor: str) -> Silence:
    """End a silence before its time. Raises Refused: there is none of that id."""
    async with store.transaction() as tx:
        found = next((one for one in await tx.alerts.silences() if one.silence_id == silence_id), None)
        if found is None or not await tx.alerts.end_silence(silence_id):
            raise Refused(
                f"there is no silence {silence_id}: `gateway-admin alerts list` shows those there are"
            )
        await record(tx, changed_silence(f"silence {silence_id} ended: {words_of(found)}"), actor=actor)
    return found


def words_of(one: Silence) -> str:
    """Of which alerts it is, in words."""
    labels = ", ".join(f"{name} {value}" for name, value in one.labels.items())
    return " ".join(part for part in (one.rule or "all alerts", f"with {labels}" if labels else "") if part)
