"""Many devices at once: read from a CSV or JSON file, checked as a whole, and added all or none.

Every problem is listed with its line before anything is done. A file has roles, labels, login methods,
whether each is enabled, and secrets if devices have them already; else they are made. Must not know where new
secrets are written to.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from gateway.admin.errors import Refused
from gateway.admin.secret_rules import hashed, secret_fault
from gateway.policy.engine.identity import (
    LABEL_VALUES_MAX,
    METHODS,
    Device,
    Labels,
    is_device_id,
    is_label,
    written_labels,
)
from gateway.policy.files.toml_document import PolicyError
from gateway.policy.imports.located_json import Located, parse
from gateway.store import NewDevice

DEVICES_MAX = 10_000
"""Devices in one file: a running gateway can take in their changes and events in one look."""
BYTES_MAX = 8_388_608
"""Bytes of a file."""
COLUMNS = ("device_id", "roles", "labels", "methods", "enabled", "secret")
_THREADS = 2
"""Threads that hash at the same time, with 19 MiB of memory each."""
_SEPARATOR = ";"
_ENABLED = {"": True, "true": True, "false": False}
"""What a cell of CSV says, in any case, for spreadsheets write TRUE. Empty is as in JSON: absent."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A device as a file has it."""

    location: str
    device_id: str
    roles: tuple[str, ...]
    labels: Labels
    methods: tuple[str, ...]
    enabled: bool
    secret: bytes | None = field(repr=False)
    """None: one is made."""


def read_devices(raw: bytes, name: str, roles: Collection[str]) -> list[Wanted]:
    """The devices of a file whose name ends in `.csv` or `.json`; `roles` are those of the policy.

    Raises Refused with every problem and its line.
    """
    problems: list[str] = []
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise Refused(f"{name} can't be read", [f"{name}:{line}: it is not UTF-8"]) from None
    found = list(_of_json(raw, name, problems) if name.endswith(".json") else _of_csv(text, name, problems))
    seen: dict[str, str] = {}
    for one in found:
        problems += [f"{one.location}: {text}" for text in _faults(one, roles)]
        if one.device_id in seen:
            problems.append(
                f"{one.location}: device {one.device_id} is named in {seen[one.device_id]} already"
            )
        seen.setdefault(one.device_id, one.location)
    if len(found) > DEVICES_MAX:
        problems.append(f"{name}: it has {len(found):,} devices, and {DEVICES_MAX:,} can be added at once")
    if not found and not problems:
        problems.append(f"{name}: it names no device")
    if problems:
        raise Refused("nothing was added", problems)
    return found


def _of_csv(text: str, name: str, problems: list[str]) -> Iterator[Wanted]:
    """Columns by their headings; several roles, labels or methods in a cell have a semicolon between them."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        heading = [column.strip() for column in next(reader, [])]
        unknown = [column for column in heading if column not in COLUMNS]
        if unknown or not {"device_id", "roles"} <= {*heading} or max(Counter(heading).values()) > 1:
            known = ",".join(COLUMNS)
            problems.append(
                f"{name}:1: the first line names the columns, each once: {known}; the last four may miss"
            )
            return
        line = reader.line_num
        for row in reader:
            location, line = f"{name}:{line + 1}", reader.line_num
            if not row:
                continue
            if len(row) != len(heading):
                problems.append(
                    f"{location}: it has {len(row)} columns, and the first line has {len(heading)}"
                )
                continue
            values = dict(zip(heading, (cell.strip() for cell in row), strict=True))
            yield Wanted(
                location,
                values["device_id"],
                _split(values["roles"]),
                _labels(_split(values.get("labels", "")), location, problems),
                _split(values.get("methods", "")) or METHODS,
                _enabled(values.get("enabled", ""), location, problems),
                values["secret"].encode() if values.get("secret") else None,
            )
    except csv.Error as error:
        problems.append(f"{name}:{reader.line_num}: it is no CSV: {error}")


def _split(cell: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in cell.split(_SEPARATOR) if part.strip())


def _labels(pairs: Sequence[str], location: str, problems: list[str]) -> Labels:
    found: dict[str, tuple[str, ...]] = {}
    for pair in pairs:
        label, equals, value = pair.partition("=")
        if not equals:
            problems.append(f"{location}: the label {pair!r} has no value: write name=value")
        else:
            found[label] = (*found.get(label, ()), value)
    return found


def _enabled(cell: str, location: str, problems: list[str]) -> bool:
    if (known := _ENABLED.get(cell.lower())) is None:
        problems.append(f"{location}: enabled is {cell!r}, and can be true or false")
    return bool(known)


def _of_json(raw: bytes, name: str, problems: list[str]) -> Iterator[Wanted]:
    """`{"devices": [{…}, …]}` with the members of COLUMNS, as from `device export`."""
    try:
        whole = parse(raw, name, problems)
    except PolicyError as error:
        problems += error.problems
        return
    for key in whole.unknown("devices"):
        problems.append(f'{whole.location}: unknown key "{key}"; known here: devices')
    for one in whole.objects("devices"):
        for key in one.unknown(*COLUMNS):
            one.problem(f'unknown key "{key}"; known here: {", ".join(COLUMNS)}')
        roles, methods = _strings(one, "roles"), _strings(one, "methods")
        labels = one.object("labels")
        secret = one.text("secret", "")
        yield Wanted(
            one.location,
            one.text("device_id"),
            roles,
            {
                label: tuple(map(str, some if isinstance(some, list) else [some]))
                for label, some in (labels.values.items() if labels else ())
            },
            methods or METHODS,
            one.flag("enabled", default=True),
            secret.encode() if secret else None,
        )


def _strings(block: Located, key: str) -> tuple[str, ...]:
    value = block.values.get(key, [])
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return tuple(value)
    block.problem(f'"{key}" has to be a list of strings')
    return ()


def _faults(one: Wanted, roles: Collection[str]) -> Iterator[str]:
    if not is_device_id(one.device_id):
        yield (
            f"{one.device_id!r} can't be a device id: letters, digits and . _ -, beginning with a letter or "
            "digit, 64 characters at most"
        )
    if not one.roles:
        yield "it has no role"
    for role in one.roles:
        if role not in roles:
            yield f"there is no role {role!r}; the roles are: {', '.join(sorted(roles))}"
    for label, some in one.labels.items():
        if len({*some}) < len(some) or not 1 <= len(some) <= LABEL_VALUES_MAX:
            yield f"the label {label} has a value twice, none, or more than {LABEL_VALUES_MAX}"
        for value in some:
            if not is_label(label, value):
                yield f"{label}={value!r} can't be a label: small letters, digits; a value is one topic level"
    for method in one.methods:
        if method not in METHODS:
            yield f"unknown method {method!r}; known: {', '.join(METHODS)}"
    if one.secret is not None and (fault := secret_fault(one.secret)):
        yield f"the secret {fault}"


def hash_all(
    wanted: Sequence[Wanted], done: Callable[[int], None] = lambda _: None
) -> tuple[list[NewDevice], dict[str, str]]:
    """The devices with their hashes, and the secrets that were made, by device id.

    `done` is called after each, with how many are done. It takes 23 ms per device, two at a time.
    """
    made: dict[str, str] = {}
    devices: list[NewDevice] = []
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="argon2") as threads:
        hashes = threads.map(hashed, [one.secret for one in wanted])
        for number, (one, (secret, credential)) in enumerate(zip(wanted, hashes, strict=True), 1):
            if one.secret is None:
                made[one.device_id] = secret.decode()
            roles = tuple(dict.fromkeys(one.roles))
            devices.append(NewDevice(one.device_id, credential, roles, one.labels, one.methods, one.enabled))
            done(number)
    return devices, made


def as_csv(devices: Sequence[Device]) -> str:
    """Devices as a CSV file for `read_devices`, without secrets: only the devices have them."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS[:-1])
    for one in devices:
        pairs = [f"{name}={value}" for name, some in sorted(one.labels.items()) for value in some]
        if unwritable := [pair for pair in pairs if _SEPARATOR in pair or pair != pair.strip()]:
            raise Refused(f"a label of {one.device_id} can't stand in CSV ({unwritable[0]!r}): export JSON")
        enabled = "true" if one.enabled else "false"
        writer.writerow([one.device_id, *map(_SEPARATOR.join, (one.roles, pairs, one.methods)), enabled])
    return out.getvalue()


def as_json(devices: Sequence[Device]) -> str:
    """The same as JSON, one device per line."""
    lines = [
        json.dumps(
            {
                "device_id": one.device_id,
                "roles": list(one.roles),
                "labels": written_labels(one.labels),
                "methods": list(one.methods),
                "enabled": one.enabled,
            },
            ensure_ascii=False,
        )
        for one in devices
    ]
    return '{"devices": [\n' + ",\n".join(f"  {line}" for line in lines) + "\n]}\n"
