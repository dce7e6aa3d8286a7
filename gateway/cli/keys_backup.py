"""`gateway-admin keys export` and `import`: the backup of all keys, under a passphrase."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.output import Failure, Json, answering, remark
from gateway.cli.settings_policy_store import Config, actor, has_store, settings_of, store_if_any, store_of
from gateway.cli.stdin import read_passphrase
from gateway.keys.key_kinds import KeyKind
from gateway.system.bounded_read import read_at_most
from gateway.system.file_errors import why

_LONGEST_BACKUP = 4_194_304  # bytes: thousands of keys

PassphraseStdin = Annotated[
    bool,
    typer.Option(
        "--passphrase-stdin", help="Read the passphrase from stdin; one line feed at its end is dropped."
    ),
]


def export(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", show_default=False, help="Where to; a new file.", readable=False)
    ],
    *,
    passphrase_stdin: PassphraseStdin = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Write all keys to a file that a passphrase protects: the backup.

    Keep it apart from the machine, for without the keys nothing that was sealed opens; and keep the
    passphrase apart from the file. Exit code 1: the file exists already, the keys can't be read, or no
    audit event of it can be kept.

    For example:

        gateway-admin keys export gateway-keys.json

        pass show gateway-keys | gateway-admin keys export --passphrase-stdin /backup/gateway-keys.json
    """
    with answering(as_json=as_json) as answer:
        from gateway.admin import keys
        from gateway.system.atomic_files import locked, write_new

        settings = settings_of(config)
        if file.exists():
            raise Failure(f"{file} exists already: name a new file")
        keys.keys_of(settings, KeyKind.SEALING)  # before anybody is asked for a passphrase
        passphrase = read_passphrase(from_stdin=passphrase_stdin, new=True)

        def put(data: bytes) -> None:
            with locked(file.absolute().parent):
                write_new(file.absolute(), data, mode=0o600)

        asyncio.run(keys.export(store_of(settings), settings, passphrase, put, actor=actor()))
        answer.give(
            {"file": str(file)},
            f"All keys are in {file}, protected by the passphrase: keep them apart.",
        )


def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", show_default=False, help="Of `keys export`.", readable=False)
    ],
    *,
    passphrase_stdin: PassphraseStdin = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Bring in the keys of a backup; a running gateway follows within a second.

    Where the key files are lost they are made anew. Where they are there they get the keys that they
    lack, keep the active key that they have, and what was destroyed stays destroyed. Exit code 1: it is
    not the passphrase, the file is damaged, or another key has the same id.

    For example:

        gateway-admin keys import gateway-keys.json
    """
    with answering(as_json=as_json) as answer:
        from gateway.admin import keys

        settings = settings_of(config)
        try:
            data = read_at_most(file, _LONGEST_BACKUP)
        except OSError as error:
            raise Failure(f"{file} can't be read: {why(file, error)}") from None
        if data is None:
            raise Failure(f"{file} is no file of `gateway-admin keys export`: it is too long")
        passphrase = read_passphrase(from_stdin=passphrase_stdin, new=False)
        if not has_store(settings):
            remark("there is no store yet that keeps an audit event: the first start records what it finds")
        found = asyncio.run(keys.import_(store_if_any(settings), settings, data, passphrase, actor=actor()))
        answer.give(
            {
                "added": list(found.added),
                "present": list(found.present),
                "left_out": list(found.left_out),
            },
            f"brought in  {', '.join(found.added) or '-'}",
            f"were there  {', '.join(found.present) or '-'}",
            *([f"left out    {', '.join(found.left_out)} (their time is over)"] if found.left_out else []),
        )
