"""`gateway-admin audit verify|prove|export`: showing that the audit trail is what was signed."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.audit import trail_of
from gateway.cli.output import Failure, Json, answering
from gateway.cli.settings_policy_store import Config, settings_of, store_if_any
from gateway.system.atomic_files import locked, write_new
from gateway.system.file_errors import why

if TYPE_CHECKING:
    from gateway.audit_trail.checkpoints import Checkpoint, VerifierKey
    from gateway.audit_trail.verification import TrailFindings
    from gateway.config import Settings

_LINE = 1_048_576
"""Characters of a log that are read at once: a line, or a part of a very long one."""
_NOTE = 65_536
"""Characters of a file that may be one checkpoint."""
_NOTE_IN_TEXT = re.compile(r'note=("(?:[^"\\]|\\.)*")')


def verify(
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(
            "--checkpoint",
            metavar="FILE",
            help="A checkpoint that you kept, or a log of the gateway, which has them; - is stdin. May be "
            "repeated.",
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key", metavar="KEY", help="The key that you know the trail by, instead of its key.pub."
        ),
    ] = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Look whether each entry of the audit trail is what was signed, and nothing was cut off.

    Whoever has the machine can cut the trail back and sign it anew. A checkpoint that was kept elsewhere
    shows that: each stands in the log, one a minute. Exit code 1: something is wrong, and is listed.

    For example:

        gateway-admin audit verify

        journalctl -u gateway -o cat | gateway-admin audit verify --checkpoint -
    """
    with answering(as_json=as_json) as answer:
        from gateway.audit_trail.verification import verify as look_through

        settings = settings_of(config)
        folder = trail_of(settings)
        whose = _key(folder, key)
        at_hand, foreign = _at_hand(checkpoint or [], asyncio.run(_known_to_store(settings)), whose)
        found = look_through(folder, whose, at_hand)
        problems = [*found.problems, *foreign]
        answer.give(
            _verified(found, whose, problems),
            f"trail        {whose.origin}",
            f"key          {whose}",
            f"entries      {found.size}, of which {found.signed} are signed",
            f"checkpoints  {found.checkpoints} agree",
            *(f"note         {note}" for note in found.notes),
            *(f"PROBLEM      {problem}" for problem in problems),
            "The trail is NOT what was signed." if problems else "The trail is what was signed.",
        )
        if problems:
            raise typer.Exit(1)


def _verified(found: TrailFindings, whose: VerifierKey, problems: Sequence[str]) -> dict[str, object]:
    return {
        "ok": not problems,
        "trail": whose.origin,
        "key": str(whose),
        "entries": found.size,
        "first": found.first,
        "signed": found.signed,
        "checkpoints": found.checkpoints,
        "problems": problems,
        "notes": found.notes,
    }


def prove(
    entry_id: Annotated[
        str, typer.Argument(metavar="ID", show_default=False, help="The number of an entry, or its id.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="Write the proof here, and the entry to FILE.entry.", readable=False
        ),
    ] = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Write a proof that an entry stands in the audit trail (C2SP tlog-proof), for others to check.

    They need the proof, the entry and the key that they know the trail by: docs/check_proof.py shows how.
    Exit code 1: there is no such entry, or no checkpoint covers it yet.

    For example:

        gateway-admin audit prove 4711 --out removal.tlog-proof
    """
    with answering(as_json=as_json) as answer:
        folder = trail_of(settings_of(config))
        whose = _key(folder, None)
        index, entry, text = _proven(folder, whose, entry_id)
        value = {"index": index, "entry": entry.decode(), "proof": text, "key": str(whose)}
        if out is None:
            answer.give(value, *text.removesuffix("\n").split("\n"))
            return
        beside = out.with_name(f"{out.name}.entry")
        with locked(out.absolute().parent):
            write_new(out.absolute(), text.encode(), mode=0o644)
            write_new(beside.absolute(), entry, mode=0o644)
        answer.give(
            value | {"file": str(out)},
            f"proof  {out}",
            f"entry  {beside}",
            f"key    {whose}",
            f"check  python docs/check_proof.py KEY {out} {beside}",
        )


def export(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", show_default=False, help="A folder that is not there.", readable=False),
    ],
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Write the trail as tiles (C2SP tlog-tiles), which any web server may serve and other programs read.

    It holds entries too, as far as they are kept. Exit code 1: there is no checkpoint yet.
    """
    with answering(as_json=as_json) as answer:
        from gateway.audit_trail.tile_export import export as write_tiles

        trail = trail_of(settings_of(config))
        done = write_tiles(trail, _key(trail, None), folder)
        answer.give(
            {"folder": str(folder), "entries": done.size, "first": done.first, "files": done.files},
            f"{done.size} entries, those from {done.first} on with their text, in {done.files} files of "
            f"{folder}",
        )


def _proven(folder: Path, whose: VerifierKey, entry_id: str) -> tuple[int, bytes, str]:
    """The number of an entry, the entry, and its proof. Raises Failure, OSError."""
    from gateway.audit_trail.checkpoints import BadCheckpoint
    from gateway.audit_trail.errors import NO_CHECKPOINT
    from gateway.audit_trail.merkle import inclusion_proof
    from gateway.audit_trail.proofs import Proof
    from gateway.audit_trail.reading import with_id
    from gateway.audit_trail.recovery import ENTRIES, TREE, newest_note
    from gateway.audit_trail.segments import entry as entry_at
    from gateway.audit_trail.tree_files import TreeFiles

    index = int(entry_id) if entry_id.isdecimal() and len(entry_id) < 16 else None
    if index is None and (known := with_id(folder / ENTRIES, entry_id)) is not None:
        index = int(known["seq"])
    entry = None if index is None else entry_at(folder / ENTRIES, index)
    if index is None or entry is None:
        raise Failure(
            f"there is no entry {entry_id!r}; `gateway-admin audit tail` shows the newest, by number"
        )
    found = newest_note(folder, whose)
    if found is None:
        raise Failure(NO_CHECKPOINT)
    checkpoint, note = found
    if index >= checkpoint.size:
        raise Failure(
            f"entry {index} is newer than the newest checkpoint: a running gateway signs one each minute"
        )
    tree = TreeFiles(folder / TREE)
    try:
        proof = Proof(index, tuple(inclusion_proof(tree, index, checkpoint.size)), note)
    finally:
        tree.close()
    try:
        proof.check(entry, whose)
    except BadCheckpoint as error:
        raise Failure(f"{error}: `gateway-admin audit verify` says what is wrong") from None
    return index, entry, proof.text()


def _key(folder: Path, given: str | None) -> VerifierKey:
    """The key that the trail is known by. Raises Failure, BadCheckpoint, OSError."""
    from gateway.audit_trail.checkpoints import VerifierKey
    from gateway.audit_trail.recovery import PUBLIC_KEY

    if given is not None:
        return VerifierKey.parse(given)
    try:
        return VerifierKey.parse((folder / PUBLIC_KEY).read_text("utf-8", "replace"))
    except FileNotFoundError:
        raise Failure(f"{folder / PUBLIC_KEY} is missing: put it back, or give the key with --key") from None


async def _known_to_store(settings: Settings) -> str:
    """The note of the checkpoint that the store has for this node; empty if there is none."""
    from gateway.store import StoreError

    try:
        async with store_if_any(settings) as store:
            return "" if store is None else (await store.audit_trails.read(settings.gateway_node)).note
    except StoreError:
        return ""


def _at_hand(files: Sequence[str], known: str, whose: VerifierKey) -> tuple[list[Checkpoint], list[str]]:
    """The checkpoints to compare with, and what is wrong with those that can't be. Raises Failure."""
    from gateway.audit_trail.checkpoints import BadCheckpoint

    found: dict[tuple[int, bytes], Checkpoint] = {}
    problems: dict[str, None] = {}
    sources = [("the store", [known] if known else []), *((name, list(_notes(name))) for name in files)]
    for name, notes in sources:
        for note in notes:
            try:
                one = whose.verified(note)
            except BadCheckpoint as error:
                problems[f"the checkpoint of {name}: {error}"] = None
            else:
                found[one.size, one.root] = one
        if not notes and name != "the store":
            problems[
                f"{name} has no checkpoint: it is no checkpoint, and no log with lines `audit checkpoint`"
            ] = None
    return list(found.values()), list(problems)


def _notes(name: str) -> Iterator[str]:
    """The checkpoints' notes in a file, which is one note, or a log with any number. Raises Failure."""
    head, is_log = "", False
    try:
        # Line by line: a log may be longer than memory, and its newest checkpoint is the one that tells most.
        with open(
            0 if name == "-" else name, encoding="utf-8", errors="replace", closefd=name != "-"
        ) as file:
            while line := file.readline(_LINE):
                head += line[: _NOTE - len(head)]
                if "audit checkpoint" in line:
                    is_log = True
                    yield from _note_in(line)
    except OSError as error:
        raise Failure(f"{name} can't be read: {why(Path(name), error)}") from None
    if "\n\n— " in head and not is_log:
        yield head


def _note_in(line: str) -> Iterator[str]:
    """The note in a line of a log, if there is one."""
    if (match := _NOTE_IN_TEXT.search(line)) is not None:
        yield str(json.loads(match[1]))
        return
    with suppress(ValueError, KeyError, TypeError):
        yield str(json.loads(line[line.index("{") :])["note"])
