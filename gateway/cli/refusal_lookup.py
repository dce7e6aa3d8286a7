"""What the log has of a refusal, for `gateway-admin acl why ID`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.cli.output import Failure
from gateway.cli.settings_policy_store import store_of
from gateway.system.utc_text import utc_text

if TYPE_CHECKING:
    from gateway.config import Settings
    from gateway.store import StoredRefusal

PASSES_NOW = (
    "It would pass now: the policy or the device has changed since then, or it was refused for the single "
    "message, a limit or the token of its connection."
)


async def refusal_of(settings: Settings, refusal_id: str) -> StoredRefusal:
    """The refusal of this id. Raises Failure."""
    async with store_of(settings) as store:
        refusal = await store.refusals.get(refusal_id)
    if refusal is None:
        raise Failure(
            f"no refusal {refusal_id!r} is kept. The id stands in the audit line of the refusal; "
            "600 of each device are kept, for 14 days. To ask about a device, give ACTION and TOPIC too"
        )
    return refusal


def logged_refusal(refusal: StoredRefusal) -> tuple[dict[str, object], list[str]]:
    """What was logged of a refusal: for a script, and as lines."""
    at = utc_text(refusal.at)
    by = f" ({refusal.rule})" if refusal.rule else ""
    value: dict[str, object] = {
        "refusal": {
            "id": refusal.refusal_id,
            "at": refusal.at * 1_000,
            "reason": refusal.reason,
            "rule": refusal.rule or None,
        }
    }
    return value, [f"refused at {at}: {refusal.reason}{by}", "by the policy as it is now:"]
