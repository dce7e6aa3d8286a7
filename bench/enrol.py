"""Puts many devices into the gateway's store at once; run in a process of its own with its settings.

Reads {"secret": ..., "devices": [...]} from stdin. One hash serves them all: what a login costs does
not depend on that, for the gateway remembers a secret by device.
"""

from __future__ import annotations

import asyncio
import json
import sys

from gateway.auth.passwords import hash_secret
from gateway.config import load_settings
from gateway.store import open_store


async def _enrol(secret: str, devices: list[str]) -> None:
    store = await open_store(load_settings(None).database_url)
    try:
        credential = hash_secret(secret.encode())
        for device in devices:
            await store.devices.add(device, credential=credential, roles=["bench"], labels={})
    finally:
        await store.close()


if __name__ == "__main__":
    asyncio.run(_enrol(**json.load(sys.stdin)))
