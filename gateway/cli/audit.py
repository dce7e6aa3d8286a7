"""`gateway-admin audit tail|search`: what happened, from the audit trail. Needs no gateway that runs."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.output import Failure, Json, Nothing, answering, shown_line, wrong_usage
from gateway.cli.settings_policy_store import Config, settings_of
from gateway.system.file_errors import is_unreachable, who_may

if TYPE_CHECKING:
    from gateway.audit_trail.reading import EntryTail, Wanted
    from gateway.config import Settings

Device = Annotated[str | None, typer.Option("--device", metavar="ID", help="Only of this device.")]
OfKind = Annotated[
    str | None,
    typer.Option("--kind", metavar="KIND", help="Only of this kind: login, publish, device, key, policy, …"),
]
WithOutcome = Annotated[
    str | None,
    typer.Option(
        "--outcome", metavar="OUTCOME", help="Only with this outcome: begun, done, refused, failed."
    ),
]
_SPAN = re.compile(r"[0-9]{1,6}[smhd]")
_LOOK_SECONDS = 0.3
"""Between two looks for new entries."""
_ENTRIES_MAX = 10_000
"""Entries that one call may ask for."""


def tail(
    count: Annotated[
        int, typer.Option("-n", "--lines", metavar="N", min=0, max=_ENTRIES_MAX, help="How many.")
    ] = 20,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on with what comes, until Ctrl-C.")
    ] = False,
    *,
    device: Device = None,
    kind: OfKind = None,
    outcome: WithOutcome = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Show the newest entries of the audit trail, the newest last.

    With --json one object; with --follow too, one object a line, for as long as it runs.

    For example:

        gateway-admin audit tail --follow --outcome refused
    """
    with answering(as_json=as_json) as answer:
        from gateway.audit_trail import reading

        folder = entries_of(settings_of(config))
        wanted = _wanted(device, kind, outcome, None, None)
        later = reading.EntryTail(folder)
        entries = reading.newest(folder, wanted, count) if count else []
        if not follow:
            none = [] if entries or not count else [Nothing("No such entries.")]
            answer.give({"entries": entries}, *none, *map(line_of, entries))
            return
        with suppress(KeyboardInterrupt):
            for entry in _and_on(entries, later, wanted):
                print(json.dumps(entry) if as_json else shown_line(line_of(entry)), flush=True)


def search(
    *,
    device: Device = None,
    kind: OfKind = None,
    outcome: WithOutcome = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="From then on: 2026-11-27T15:00, or 90m, 24h, 14d ago."),
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="TIME", help="Before then, in the same words.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=_ENTRIES_MAX, help="The newest N.")
    ] = 1_000,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Find entries of the audit trail by device, kind, outcome and time (UTC), the newest last.

    Exit code 1: there is none.

    For example:

        gateway-admin audit search --device lamp-1 --since 24h

        gateway-admin audit search --kind key --since 2026-11-01 --json
    """
    with answering(as_json=as_json) as answer:
        from gateway.audit_trail import reading

        folder = entries_of(settings_of(config))
        found = reading.newest(folder, _wanted(device, kind, outcome, since, until), limit + 1)
        entries = found[-limit:]
        none = [] if entries else [Nothing("No such entries.")]
        answer.give({"entries": entries, "more": len(found) > limit}, *none, *map(line_of, entries))
        if len(found) > limit:
            print(f"note: there are older ones; --limit {limit} shows the newest", file=sys.stderr)
        if not found:
            raise typer.Exit(1)


def trail_of(settings: Settings) -> Path:
    """The folder of the trail. Raises Failure if there is none that can be read."""
    from gateway.audit_trail.reading import is_readable

    folder = settings.audit_path
    if is_unreachable(folder) or (folder.exists() and not is_readable(folder)):
        raise Failure(f"the audit trail {folder.absolute()} can't be read: {who_may(folder)}")
    if not folder.exists():
        raise Failure(
            f"there is no audit trail at {folder.absolute()}: a gateway makes it at its first start; call "
            "this where it runs (--config FILE, GATEWAY_DATA_DIR)"
        )
    return folder


def entries_of(settings: Settings) -> Path:
    """The folder of its entries. Raises Failure."""
    from gateway.audit_trail.recovery import ENTRIES

    return trail_of(settings) / ENTRIES


def line_of(entry: Mapping[str, Any]) -> str:
    """An entry for people: number, time, what, who, why."""
    said = [str(entry.get(name, "-")) for name in ("kind", "outcome")]
    who = entry.get("device") or entry.get("network") or entry.get("address") or "-"
    why = str(entry.get("reason", ""))
    if topic := entry.get("topic"):
        why += f" [{topic}]"
    for name in ("suppressed", "dropped"):
        if count := entry.get(name):
            why += f" ({count} {name})"
    return "\t".join([f"#{entry.get('seq')}", _moment(entry.get("time")), *said, str(who), why])


def _moment(unix_ms: object) -> str:
    if not isinstance(unix_ms, int) or not 0 <= unix_ms < 253_402_300_800_000:
        return "-"
    moment = datetime.fromtimestamp(unix_ms / 1_000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _wanted(
    device: str | None, kind: str | None, outcome: str | None, since: str | None, until: str | None
) -> Wanted:
    from gateway.audit_trail.reading import Wanted
    from gateway.connection.audit_vocabulary import Kind, Outcome

    for option, given, known in (("--kind", kind, Kind), ("--outcome", outcome, Outcome)):
        if given is not None and given not in set(known):
            raise wrong_usage(f"{option} {given!r} is none of: {', '.join(known)}")
    return Wanted(
        device=device,
        kind=kind,
        outcome=outcome,
        since=_time("--since", since),
        until=_time("--until", until),
    )


def _time(option: str, text: str | None) -> int | None:
    """A time as it was given, or as long ago as was given, in Unix milliseconds. Raises Failure."""
    from gateway.cli.durations import seconds_of

    if text is None:
        return None
    now = datetime.now(UTC)
    if _SPAN.fullmatch(text):
        return int(now.timestamp() * 1_000) - seconds_of(option, text) * 1_000
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise wrong_usage(
            f"{option} {text!r} is no time: give 2026-11-27T15:00 (UTC), or 90m, 24h, 14d"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1_000)


def _and_on(entries: list[dict[str, Any]], later: EntryTail, wanted: Wanted) -> Iterator[dict[str, Any]]:
    yield from entries
    while True:
        yield from filter(wanted.fits, later.new_entries())
        time.sleep(_LOOK_SECONDS)
