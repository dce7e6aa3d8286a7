"""`gateway-admin backup` and `restore`: the whole gateway in one file, under a passphrase."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from gateway.cli.keys_backup import PassphraseStdin
from gateway.cli.output import Failure, Json, answering, json_time
from gateway.cli.settings_policy_store import Config, actor, settings_of, store_of
from gateway.cli.stdin import Yes, demand_yes, read_passphrase
from gateway.cli.tables import first_of
from gateway.system.file_errors import not_written, why
from gateway.system.utc_text import utc_text

if TYPE_CHECKING:
    from gateway.admin.backup import Saved
    from gateway.admin.restore import Restored
    from gateway.config import Settings

_SHOWN = 10
"""Names that are printed of a list; --json has all."""


def backup(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", show_default=False, help="Where to; a new file.", readable=False)
    ],
    *,
    passphrase_stdin: PassphraseStdin = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Write the whole gateway to a file that a passphrase protects: devices, keys, certificates, policy.

    The gateway goes on running. Settings are not in it, so keep ENCRYPTION_KEY and JWT_SECRET, if you use
    them, apart. Exit code 1: the file exists already, something can't be read, or no audit event of it can be
    kept.

    For example:

        gateway-admin backup /backup/gateway-2026-11-27

        pass show gateway-backup | gateway-admin backup --passphrase-stdin /backup/gateway-2026-11-27
    """
    with answering(as_json=as_json) as answer:
        settings = settings_of(config)
        if file.exists():
            raise Failure(f"{file} exists already: name a new file")
        passphrase = read_passphrase(from_stdin=passphrase_stdin, new=True)
        saved = _backup(settings, file, passphrase)
        answer.give(
            {"file": str(file), "at": json_time(saved.at), "devices": saved.devices, "files": saved.files},
            f"All of the gateway as it was at {utc_text(saved.at)} is in {file}: {saved.devices} devices, "
            f"its keys, and {saved.files} files of certificates and policy.",
            "Keep it apart from this machine, and the passphrase apart from the file.",
        )


def _backup(settings: Settings, file: Path, passphrase: bytes) -> Saved:
    from gateway.admin.backup import write_file
    from gateway.system.atomic_files import sync_folder

    draft = file.with_name(f".{file.name}.new")
    draft.unlink(missing_ok=True)
    try:
        with write_file(draft) as target:
            saved = asyncio.run(_back_up(settings, passphrase, target))
        draft.rename(file)
        sync_folder(file.absolute().parent)
    except OSError as error:
        raise Failure(not_written(file, error)) from error
    finally:
        draft.unlink(missing_ok=True)
    return saved


async def _back_up(settings: Settings, passphrase: bytes, target: BinaryIO) -> Saved:
    from gateway.admin.backup import back_up

    async with store_of(settings) as store:
        saved = await back_up(store, settings, passphrase, target, actor=actor())
        target.flush()
        os.fsync(target.fileno())
        return saved


def restore(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", show_default=False, help="Of `backup`.", readable=False)
    ],
    *,
    enable_devices: Annotated[
        bool,
        typer.Option(
            "--enable-devices",
            help="Where nobody knows what was decided since: let in the devices that were let in then.",
        ),
    ] = False,
    yes: Yes = False,
    passphrase_stdin: PassphraseStdin = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Bring the whole gateway back from a backup, as far as later decisions allow. Stop the gateway first.

    Where its store went on since the backup, what was removed, disabled or destroyed stays so, and devices
    keep the secrets they have. Elsewhere nobody knows what was decided since, and all devices are disabled
    unless --enable-devices is given. All tokens end. What is here is copied to a folder in GATEWAY_DATA_DIR
    first.

    For example:

        gateway-admin restore /backup/gateway-2026-11-27
    """
    with answering(as_json=as_json) as answer:
        settings = settings_of(config)
        if not file.is_file():
            found = (
                f"{file} is a folder, and a backup is a file" if file.is_dir() else f"there is no file {file}"
            )
            raise Failure(f"{found}: give the path of one that `gateway-admin backup` wrote")
        if not yes:
            demand_yes(f"Restore {settings.gateway_data_dir.absolute()} from {file}?", "nothing was restored")
        passphrase = read_passphrase(from_stdin=passphrase_stdin, new=False)
        done = _restore(settings, file, passphrase, enable_devices=enable_devices)
        answer.give(
            _as_json(done, enable_devices=enable_devices), *_as_text(done, enable_devices=enable_devices)
        )


def _restore(settings: Settings, file: Path, passphrase: bytes, *, enable_devices: bool) -> Restored:
    from gateway.admin.restore import restore as bring_back
    from gateway.app.startup_preparation import alone

    with contextlib.ExitStack() as stack:
        stack.enter_context(alone(settings))
        try:
            source = stack.enter_context(file.open("rb"))
        except OSError as error:
            raise Failure(f"{file} can't be read: {why(file, error)}") from None
        return asyncio.run(
            bring_back(settings, source, passphrase, enable_devices=enable_devices, actor=actor())
        )


def _as_json(done: Restored, *, enable_devices: bool) -> dict[str, object]:
    merged = done.merged
    value: dict[str, object] = {
        "at": json_time(done.at),
        "node": done.node,
        "elsewhere": done.history_unknown,
        "devices": done.devices,
        "disabled": done.history_unknown and not enable_devices,
        "keys": {
            "added": list(done.keys.added),
            "present": list(done.keys.present),
            "left_out": list(done.keys.left_out),
        },
        "kept_files": done.kept_files,
        "policy": None if done.policy_folder is None else str(done.policy_folder),
        "before": None if done.aside is None else str(done.aside),
    }
    if merged is not None:
        value |= {
            "restored": merged.restored,
            "stay_removed": merged.stay_removed,
            "stay_disabled": merged.stay_disabled,
            "keep_secret": merged.keep_secret,
            "taken_away": merged.taken_away,
        }
    return value


def _as_text(done: Restored, *, enable_devices: bool) -> list[str]:
    lines = [f"Restored from the backup of {utc_text(done.at)}, made on {done.node}."]
    if done.merged is None:
        lines.append(f"devices   {len(done.devices)}, as they were then")
        if enable_devices:
            lines.append("          enabled as they were: what was removed or disabled since is let in again")
        else:
            lines += [
                "          ALL DISABLED: what was removed, disabled or revoked since can't be known here",
                "          gateway-admin device enable ID lets one in; restore --enable-devices all of then",
            ]
    else:
        merged = done.merged
        lines.append(f"devices   {len(merged.restored)} have the roles and labels of then")
        for what, names in (
            ("stay removed", merged.stay_removed),
            ("stay disabled", merged.stay_disabled),
            ("keep the secret that they have here", merged.keep_secret),
            ("added since, and taken away", merged.taken_away),
        ):
            if names:
                lines.append(f"          {len(names)} {what}: {first_of(names, _SHOWN)}")
    lines.append(
        "tokens    none of before is good any more: devices log in with their secret, or ask for new ones"
    )
    added, present = (first_of(names, _SHOWN) for names in (done.keys.added, done.keys.present))
    lines.append(f"keys      brought in: {added}; were here: {present}")
    lines += [f"kept      {path}, which is not the one of the backup" for path in done.kept_files]
    if done.policy_folder is not None:
        lines.append(f"policy    that of the backup is in {done.policy_folder}")
    if done.aside is not None:
        lines.append(f"before    a copy of what was here is in {done.aside}: take it away when all is well")
    return [*lines, "", "Next: gateway check, and start the gateway."]
