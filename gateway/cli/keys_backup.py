"""`gateway-admin keys export` and `import`: the backup of all keys, under a passphrase.

Passphrases are typed or read from stdin, never taken from the command line, where any user of the machine
sees them.
"""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from gateway.cli.key_sources import Kind, keys_of, tell
from gateway.cli.output import Failure, Json, answering, wrong_usage
from gateway.cli.sources import Config, settings_of
from gateway.system.atomic_files import why

_LONGEST_PASSPHRASE = 4_096  # bytes
_LONGEST_BACKUP = 4_194_304  # bytes: thousands of keys

PassphraseStdin = Annotated[
    bool,
    typer.Option(
        "--passphrase-stdin", help="Read the passphrase from stdin; one line feed at its end is dropped."
    ),
]


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False, help="Where to; a new file.")],
    *,
    passphrase_stdin: PassphraseStdin = False,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Write all keys to a file that a passphrase protects: the backup.

    Keep it apart from the machine, for without the keys nothing that was sealed opens; and keep the
    passphrase apart from the file. Exit code 1: the file exists already, or the keys can't be read.

    For example:

        gateway-admin keys export gateway-keys.json

        pass show gateway-keys | gateway-admin keys export --passphrase-stdin /backup/gateway-keys.json
    """
    with answering(as_json=as_json) as answer:
        from gateway.keys.backup import export_keys
        from gateway.system.atomic_files import locked, write_new

        settings = settings_of(config)
        if file.exists():
            raise Failure(f"{file} exists already: name a new file")
        keys_of(settings, Kind.SEALING)  # before anybody is asked for a passphrase
        passphrase = _passphrase(from_stdin=passphrase_stdin, new=True)
        data = export_keys(
            settings.encryption_key_path, settings.signing_key_path, settings.encryption_key, passphrase
        )
        with locked(file.absolute().parent):
            write_new(file.absolute(), data, mode=0o600)
        tell(settings, "all keys exported")
        answer.give(
            {"file": str(file)},
            f"All keys are in {file}, protected by the passphrase: keep them apart.",
        )


def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False, help="Of `keys export`.")],
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
        from gateway.keys.backup import import_keys

        settings = settings_of(config)
        try:
            with file.open("rb") as source:
                data = source.read(_LONGEST_BACKUP + 1)
        except OSError as error:
            raise Failure(f"{file} can't be read: {why(file, error)}") from None
        if len(data) > _LONGEST_BACKUP:
            raise Failure(f"{file} is no file of `gateway-admin keys export`: it is too long")
        passphrase = _passphrase(from_stdin=passphrase_stdin, new=False)
        found = import_keys(
            data, passphrase, settings.encryption_key_path, settings.signing_key_path, settings.encryption_key
        )
        if found.added:
            tell(settings, f"keys imported: {', '.join(found.added)}")
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


def _passphrase(*, from_stdin: bool, new: bool) -> bytes:
    from gateway.keys.wrapping import PASSPHRASE_MIN

    if from_stdin and not sys.stdin.isatty():
        given = sys.stdin.buffer.read(_LONGEST_PASSPHRASE + 3).removesuffix(b"\n").removesuffix(b"\r")
    elif sys.stdin.isatty():
        given = getpass.getpass("Passphrase: ").encode("utf-8", "surrogateescape")
        if new and getpass.getpass("Once more: ").encode("utf-8", "surrogateescape") != given:
            raise Failure("the passphrases differ: nothing was written")
    else:
        raise wrong_usage("there is no terminal to ask for the passphrase: give it with --passphrase-stdin")
    if len(given) > _LONGEST_PASSPHRASE:
        raise wrong_usage(f"the passphrase is longer than {_LONGEST_PASSPHRASE:,} bytes")
    if new and len(given.decode(errors="replace")) < PASSPHRASE_MIN:
        raise wrong_usage(
            f"the passphrase is shorter than {PASSPHRASE_MIN} characters: whoever has the file can guess as "
            "long as they like"
        )
    return given
