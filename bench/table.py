"""The result as a table for people and as JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.ratios import ALLOWED, Ratio, Verdict, ratio, verdict
from bench.workloads import Round, Row

BUSY = 0.9  # above this share of a core the generator may have been what limited the rate

Results = Mapping[str, Mapping[str, "list[Round] | str"]]
"""Row key -> server -> its rounds, or why there are none."""


def _median(rounds: list[Round] | str | None, name: str) -> float | None:
    if not isinstance(rounds, list):
        return None
    values = [getattr(one, name) for one in rounds if getattr(one, name) is not None]
    return statistics.median(values) if values else None


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _paired(by_server: Mapping[str, list[Round] | str], first: str, second: str) -> Ratio | None:
    """The rounds of two servers by their numbers; None if they have none in common."""
    one, other = by_server.get(first), by_server.get(second)
    if not isinstance(one, list) or not isinstance(other, list):
        return None
    theirs = {measured.number: measured.value for measured in other}
    return ratio((mine.value, theirs[mine.number]) for mine in one if mine.number in theirs)


def judge(rows: Sequence[Row], ours: str, older: str, results: Results) -> dict[str, Verdict]:
    """Row key -> whether this checkout is dearer. Rows that mean nothing for it are not there."""
    return {
        row.key: verdict(_paired(results[row.key], ours, older))
        for row in rows
        if results[row.key].get(ours) != ""
    }


def _ratios(
    rows: Sequence[Row], ours: str, others: Sequence[str], older: str | None, results: Results
) -> list[str]:
    """The gateway's cost to that of each other one, and how busy the machine was meanwhile."""
    head = ["work", *(f"to {name}" for name in others), *(["verdict"] if older else []), "busy elsewhere"]
    reading = (
        f"(~ is worth less than its noise: the interval holds 1 and is wider than ±{ALLOWED - 1:.0%}. "
        "Busy elsewhere: processors in use by what is not ours, mean and worst round.)"
    )
    lines = [
        "",
        f"## {ours.capitalize()}'s cost to that of others, by rounds: median and its 95 % interval",
        "",
        reading,
        "",
        f"| {' | '.join(head)} |",
        "|---" * len(head) + "|",
    ]
    verdicts = judge(rows, ours, older, results) if older else {}
    for row in rows:
        by_server = results[row.key]
        found = [_paired(by_server, ours, name) for name in others]
        cells = [row.title, *(str(one) if one else "" for one in found)]
        if older:
            cells.append(verdicts[row.key].value if row.key in verdicts else "")
        busy = [one.others for rounds in by_server.values() if isinstance(rounds, list) for one in rounds]
        cells.append(f"{statistics.mean(busy):.2f} / {max(busy):.2f}" if busy else "")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def render(
    about: Mapping[str, object],
    rows: Sequence[Row],
    servers: Sequence[str],
    results: Results,
    *,
    ours: str,
    older: str | None = None,
) -> str:
    """Markdown: CPU and memory, ratios, rates, latencies, and what the Mosquitto behind a proxy used."""

    def table(
        title: str, chosen: Sequence[Row], cell: Callable[[Row, str], str], *, budget: bool
    ) -> list[str]:
        head = ["work", *servers, *(["gateway: at most"] if budget else [])]
        lines = ["", f"## {title}", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
        for row in chosen:
            cells = [row.title + (f" ({row.unit})" if row.unit != "µs" else "")]
            cells += [cell(row, server) for server in servers]
            cells += [_number(row.budget)] if budget else []
            if any(cells[1 : 1 + len(servers)]):
                lines.append(f"| {' | '.join(cells)} |")
        return lines

    def cost(row: Row, server: str) -> str:
        rounds = results[row.key].get(server, "not available")
        if isinstance(rounds, str):
            return rounds
        values = [one.value for one in rounds]
        return _number((statistics.mean if row.adds_up else statistics.median)(values)) if values else ""

    def rate(row: Row, server: str) -> str:
        rounds = results[row.key].get(server)
        busy = _median(rounds, "generator") or 0.0
        return _number(_median(rounds, "rate")) + ("*" if busy >= BUSY else "")

    def latency(row: Row, server: str) -> str:
        p50, p99 = (_median(results[row.key].get(server), name) for name in ("p50", "p99"))
        return "" if p50 is None or p99 is None else f"{p50 * 1e3:.2f} / {p99 * 1e3:.2f}"

    def bus(row: Row, server: str) -> str:
        return _number(_median(results[row.key].get(server), "bus"))

    lines = ["# Benchmark", "", *(f"- {name}: {value}" for name, value in about.items())]
    lines += table("CPU µs of the server's own processes, per unit of work", rows, cost, budget=True)
    if ours in servers:
        lines += _ratios(rows, ours, [name for name in servers if name != ours], older, results)
    title = "Units a second (* the load generator had no time left: not a limit of the server)"
    lines += table(title, [row for row in rows if row.rate], rate, budget=False)
    waiting = [row for row in rows if row.latency]
    lines += table(
        "Latency from PUBLISH to PUBACK, or from request to answer, ms, p50 / p99",
        waiting,
        latency,
        budget=False,
    )
    lines += table("CPU µs of the Mosquitto behind, per unit of work", rows, bus, budget=False)
    return "\n".join(lines) + "\n"


def save(folder: Path, stem: str, text: str, about: Mapping[str, object], results: Results) -> list[Path]:
    """<stem>.md and <stem>.json with every round."""
    folder.mkdir(exist_ok=True)
    plain = {
        key: {
            server: rounds if isinstance(rounds, str) else [dataclasses.asdict(one) for one in rounds]
            for server, rounds in by_server.items()
        }
        for key, by_server in results.items()
    }
    paths = [folder / f"{stem}.md", folder / f"{stem}.json"]
    paths[0].write_text(text)
    paths[1].write_text(json.dumps({"about": about, "results": plain}, indent=1, default=str))
    return paths
