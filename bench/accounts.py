"""Who connects: the accounts that every server knows, and the topics that they may use.

One secret for all, new in each run. What differs is the history: the fleet connects once and stays,
`again` has been seen before, each of `first` connects once in the life of a server.
"""

from __future__ import annotations

import secrets

SECRET = secrets.token_urlsafe(32)
FLEET = tuple(f"dev-{number:03}" for number in range(100))
FIRST = tuple(f"first-{number:03}" for number in range(200))
AGAIN = tuple(f"again-{number:02}" for number in range(8))
IDLE = tuple(f"idle-{number:04}" for number in range(1_000))
PUBLISHER = "publisher"
LISTENER = "listener"
ALL = (*FLEET, *FIRST, *AGAIN, *IDLE, PUBLISHER, LISTENER)

NEWS = "bench/news"
ALL_TELEMETRY = "devices/+/telemetry/#"


def telemetry(account: str) -> str:
    """A topic that the bus gets as it is."""
    return f"devices/{account}/telemetry/bench"


def private(account: str) -> str:
    """As long as the other, and sensitive: the gateway seals what is said here."""
    return f"devices/{account}/private/bench-x"
