"""A message in words, for people: a title, and a line or two for each alert."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.alerts.notification_grouping import Listed, Message, State
from gateway.observe.terminal_escaping import printable
from gateway.system.utc_text import utc_text

_LINES_MAX = 25
"""Alerts that have lines of their own."""


def title_of(message: Message) -> str:
    """One line: what happened, how grave it is, where."""
    first = message.alerts[0]
    state = "RESOLVED" if message.state is State.RESOLVED else message.severity.value.upper()
    if message.count == 1:
        labels = _labels(first)
        what = f"{first.alert}{f' ({labels})' if labels else ''}: {first.summary}"
    else:
        rules = list(message.counts)
        named = ", ".join(f"{rule} {message.counts[rule]}" for rule in rules[:3])
        what = f"{message.count} alerts: {named}{', …' if len(rules) > 3 else ''}"
    return printable(f"[{state}] {what} [{message.node}]")


def lines_of(message: Message) -> Iterator[str]:
    """Two lines for each of the first alerts, and how many more there are."""
    shown = message.alerts[:_LINES_MAX]
    for one in shown:
        labels = _labels(one)
        yield printable(f"{one.severity.value} {one.alert}{f' ({labels})' if labels else ''}: {one.summary}")
        yield printable(f"    since {utc_text(one.since // 1_000)}, value {one.value:g}")
    if message.count > len(shown):
        yield f"... and {message.count - len(shown)} more: `gateway-admin alerts list` shows all"


def _labels(one: Listed) -> str:
    return ", ".join(f"{label} {value}" for label, value in one.labels.items())
