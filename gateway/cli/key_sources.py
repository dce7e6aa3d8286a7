"""What the commands on keys work with: the key files, how often keys were used, and whom to tell."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.cli.output import Failure
from gateway.cli.sources import note, store_of
from gateway.observe.printable import printable

if TYPE_CHECKING:
    from gateway.config import Settings
    from gateway.keys.key_ring import Key


class Kind(StrEnum):
    """What a key is for."""

    SEALING = "sealing"
    SIGNING = "signing"


def path_of(settings: Settings, kind: Kind) -> Path:
    """The file of these keys."""
    return settings.encryption_key_path if kind is Kind.SEALING else settings.signing_key_path


def keys_of(settings: Settings, kind: Kind) -> list[Key]:
    """The keys of the file. Raises Failure and KeyFileError."""
    from gateway.keys.key_files import read_key_file, read_signing_file

    if kind is Kind.SIGNING and settings.jwt_secret is not None:
        raise Failure("tokens are signed with JWT_SECRET: to rotate it, change it; all tokens end with it")
    path = path_of(settings, kind)
    if not path.exists():
        # Never made here: keys that appear in whatever folder this was called from would serve nobody.
        raise Failure(
            f"there are no {kind} keys at {path.absolute()}: `gateway-admin init` makes what is missing, "
            "`keys import` brings back what is lost; or call this where the gateway runs (--config, "
            "GATEWAY_DATA_DIR)"
        )
    read = read_key_file if kind is Kind.SEALING else read_signing_file
    return read(path, settings.encryption_key)


async def uses_of(settings: Settings) -> Mapping[str, int]:
    """How many messages each sealing key has sealed; nothing is known without a store."""
    if not settings.database_path.exists():
        return {}
    async with store_of(settings) as store:
        return await store.key_uses.read()


def tell(settings: Settings, reason: str) -> None:
    """Have a running gateway tell it. What was done to the files stays done when the store fails."""
    from gateway.store import StoreError

    async def tell() -> None:
        async with store_of(settings) as store:
            await note(store, "key", reason)

    try:
        if settings.database_path.exists():
            asyncio.run(tell())
    except StoreError as error:
        remark(f"done, but no gateway will tell of it: {error}")


def remark(text: str) -> None:
    """Say what is worth knowing and no error."""
    print(f"note: {printable(text)}", file=sys.stderr)
