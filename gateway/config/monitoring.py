"""monitoring.toml (MONITORING_PATH): checks of other services, rules of alerts, channels.

Owns what may stand in the file and what is wrong with it: every problem at once, each with its file and line.
A shipped rule is switched on or off by its name, and may be given a different condition, duration, severity
or summary. Without the file the shipped rules are in force, and their alerts are only in the log and the
audit. Reads files, so call it off the event loop.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from gateway.alerts.channels.settings import ChannelSettings
from gateway.alerts.condition_parser import NoCondition, condition_of
from gateway.alerts.reading_catalogue import catalogue
from gateway.alerts.readings_protocol import Catalogue
from gateway.alerts.rules import Rule
from gateway.alerts.shipped_rules import SHIPPED, ShippedRule
from gateway.config.alert_channels import ChannelReader
from gateway.config.toml_values import DAY, cut, host_and_port, one_of, seconds, severity_of, url_fault
from gateway.mqtt.topics import filter_fault
from gateway.observe.external_service_check_definitions import (
    OUR_CHECKS,
    DeviceCheck,
    HttpCheck,
    ServiceCheck,
    TcpCheck,
)
from gateway.policy.engine.identity import is_device_id
from gateway.policy.files.toml_document import Block, read

T = TypeVar("T")

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}")
_TOP = ("allow_private_addresses", "metrics_of_devices", "check", "alert", "channel")
_BLOCKS_MAX = 200
"""Blocks of one kind: checks, alerts, or channels."""
_DEVICES_MAX = 50
"""Devices with metrics of their own: each makes a series of every such metric."""
_SUMMARY_LENGTH_MAX = 500
"""Characters of an alert's summary."""
_KINDS_OF_CHECK = ("http", "tcp", "device")
_OF_ALERT = ("name", "enabled", "condition", "duration", "severity", "summary")


class MonitoringError(Exception):
    """The file can't be used. `problems` has every reason, as `file:line: what is wrong`."""

    def __init__(self, problems: list[str], files: Sequence[Path]) -> None:
        """`files` are those that were read: what has to be corrected is in one of them."""
        self.problems = tuple(problems)
        self.files = tuple(files)
        super().__init__("\n".join(problems))


@dataclass(frozen=True, slots=True)
class Monitoring:
    """What monitoring.toml says, checked."""

    checks: tuple[ServiceCheck, ...] = ()
    rules: tuple[Rule, ...] = ()
    """The rules that are in force, shipped ones among them."""
    channels: tuple[ChannelSettings, ...] = ()
    allow_private_addresses: bool = False
    """Whether channels may be on the local network. Checks may use any address."""
    metrics_of_devices: tuple[str, ...] = ()
    """Devices that have metrics of their own in `/metrics`."""
    files: tuple[Path, ...] = field(default=(), repr=False)
    """What it was read from: the file, if there is one, and those of the secrets."""


def load_monitoring(path: Path) -> Monitoring:
    """What the file says; the defaults if there is no file. Raises MonitoringError."""
    problems: list[str] = []
    block: Block | None = None
    if _may_be_there(path):
        block = read(path, problems, missing="restore it, or remove the link")
        if block is None:
            raise MonitoringError(problems, [path])
    reader = _Reader(path, problems)
    found = reader.monitoring(block)
    if problems:
        raise MonitoringError(sorted(problems, key=partial(_line, path)), reader.files)
    return found


def _line(path: Path, problem: str) -> int:
    """The line that a problem is about, so that they are listed from top to bottom."""
    return int(problem.removeprefix(f"{path}:").partition(":")[0])


def _may_be_there(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True  # then reading it says why it can't be read
    return True


class _Reader:
    """Reads the blocks of one file."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        self._folder = path.parent
        self._problems = problems
        self._catalogue: Catalogue = catalogue()
        self.files = [path]

    def monitoring(self, block: Block | None) -> Monitoring:
        if block is None:
            return Monitoring(rules=tuple(self._rules(None)), files=tuple(self.files))
        block.only(*_TOP)
        private = block.flag("allow_private_addresses", default=False)
        reader = ChannelReader(self._folder, private=private)
        checks: Iterator[ServiceCheck] = self._each(block, "check", self._check)
        channels: Iterator[ChannelSettings] = self._each(block, "channel", reader.channel)
        found = Monitoring(
            checks=tuple(checks),
            rules=tuple(self._rules(block)),
            channels=tuple(channels),
            allow_private_addresses=private,
            metrics_of_devices=tuple(_devices(block)),
        )
        self.files += reader.files
        return replace(found, files=tuple(self.files))

    def _each(self, block: Block, kind: str, one: Callable[[Block, str], T | None]) -> Iterator[T]:
        """What `one` makes of each block of this kind. A name that is there twice is a problem."""
        names: dict[str, int] = {}
        blocks = block.blocks(kind)
        if len(blocks) > _BLOCKS_MAX:
            block.problem(f"there are {len(blocks)} [[{kind}]] blocks; {_BLOCKS_MAX} is the most", key=kind)
            return
        for inner in blocks:
            name = inner.text("name")
            if name and not _NAME.fullmatch(name):
                inner.problem(
                    f'the name "{name}" has to begin with a letter and have only letters, digits, _ and -, '
                    "64 at most",
                    key="name",
                )
            elif name in names:
                inner.problem(f'the {kind} "{name}" stands at line {names[name]} already', key="name")
            names.setdefault(name, inner.line)
            made = one(inner, name)
            if made is not None:
                yield made

    # Checks

    def _check(self, block: Block, name: str) -> ServiceCheck | None:
        kind = one_of(block, "kind", _KINDS_OF_CHECK)
        more = ("topic", "within") if kind == "device" else ()
        block.only("name", "kind", "target", "interval", "timeout", *more)
        if name in OUR_CHECKS:
            block.problem(
                f'"{name}" is a check of the gateway itself; give this a different name', key="name"
            )
        interval = seconds(block, "interval", 30, least=1)
        timeout = seconds(block, "timeout", min(5, interval), least=1)
        if timeout > interval:
            block.problem(
                "the timeout is longer than the interval: the next would begin first", key="timeout"
            )
        target = block.text("target")
        if not (target and kind):
            return None
        if kind == "http":
            fault = url_fault(target, ("http", "https"))
            made: ServiceCheck = HttpCheck(name, interval, timeout, target)
        elif kind == "tcp":
            address, fault = host_and_port(target)
            made = TcpCheck(name, interval, timeout, address)
        else:
            fault = "" if is_device_id(target) else f'"{target}" is no device id'
            made = DeviceCheck(name, interval, timeout, target, *_heard(block))
        if fault:
            block.problem(f"the target of a check of {kind}: {fault}", key="target")
        return made

    # Alerts

    def _rules(self, block: Block | None) -> Iterator[Rule]:
        """The shipped rules that are on, with what the file says of them, and then those of the file."""
        blocks = [] if block is None else list(self._each(block, "alert", lambda inner, name: (name, inner)))
        said = dict(blocks)
        for shipped in SHIPPED:
            inner = said.pop(shipped.name, None)
            rule = self._shipped(shipped) if inner is None else self._rule(inner, shipped.name, shipped)
            if rule is not None:
                yield rule
        for name, inner in said.items():
            rule = self._rule(inner, name, None)
            if rule is not None:
                yield rule

    def _shipped(self, shipped: ShippedRule) -> Rule | None:
        """The rule as it is shipped; None for one that is in force only if the file switches it on."""
        if not shipped.on:
            return None
        condition = condition_of(shipped.condition, self._catalogue)
        return Rule(shipped.name, condition, shipped.duration, shipped.severity, shipped.summary)

    def _rule(self, block: Block, name: str, shipped: ShippedRule | None) -> Rule | None:
        """The rule that a block makes; None for one that is switched off, or has a problem."""
        block.only(*_OF_ALERT)
        enabled = block.flag("enabled", default=True)
        text = block.text("condition", shipped.condition if shipped else None)
        duration = seconds(block, "duration", shipped.duration if shipped else None, least=0)
        severity = severity_of(block, "severity", shipped.severity if shipped else None)
        summary = block.text("summary", shipped.summary if shipped else None)
        if len(summary) > _SUMMARY_LENGTH_MAX or not summary.isprintable():
            block.problem(
                f"the summary is one line of {_SUMMARY_LENGTH_MAX} characters at most", key="summary"
            )
        if not text:
            return None
        try:
            condition = condition_of(text, self._catalogue)
        except NoCondition as error:
            block.problem(f"the condition {cut(text)}: {error}", key="condition")
            return None
        return Rule(name, condition, duration, severity, summary) if enabled else None


def _devices(block: Block) -> Iterator[str]:
    """The devices with metrics of their own."""
    key, seen = "metrics_of_devices", set[str]()
    if key not in block.values:
        return
    for device, line in block.strings(key):
        if not is_device_id(device):
            block.problem(f'"{cut(device)}" is no device id', line=line)
        elif device in seen:
            block.problem(f'"{device}" is there twice', line=line)
        seen.add(device)
        yield device
    if len(seen) > _DEVICES_MAX:
        block.problem(f"there are {len(seen)} devices; {_DEVICES_MAX} is the most", key=key)


def _heard(block: Block) -> tuple[str | None, int | None]:
    """The topic on which a device has to be heard, and the seconds within which it has to be."""
    both = {"topic", "within"} & block.values.keys()
    if not both:
        return None, None
    if len(both) == 1:
        block.problem('"topic" and "within" go together: heard from on that topic within that time')
    topic = block.text("topic", "#")
    if fault := filter_fault(topic):
        block.problem(f'the topic "{cut(topic)}" {fault}', key="topic")
    return topic, seconds(block, "within", DAY, least=1)
