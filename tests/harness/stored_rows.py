"""What a gateway saved, waited for without asking its commands again and again: each is a process."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing

from harness.gateway import Gateway


def wait_for_row(gateway: Gateway, query: str, *values: object, seconds: float = 20.0) -> None:
    """Until the gateway's store has a row for this query. Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    with closing(sqlite3.connect(f"{gateway.env['GATEWAY_DATA_DIR']}/gateway.db")) as store:
        while store.execute(query, values).fetchone() is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"no row for {query} {values}")
            time.sleep(0.02)


def wait_for_refusal(gateway: Gateway, refusal_id: object) -> None:
    """Until `acl why` can explain this refusal: they are saved each second."""
    wait_for_row(gateway, "SELECT 1 FROM refusals WHERE refusal_id = ?", refusal_id)
