"""Where the settings come from, and the one place that says what is wrong with them."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import NamedTuple

from dotenv.parser import parse_stream
from pydantic import ValidationError

from gateway.config.settings import Settings
from gateway.config.unknown_names import FILE_OF, UNSAFE_WHEN_EMPTY, NameKind, kind_of_name, meant
from gateway.system.file_errors import why

_BOM = "\ufeff"
_KUBERNETES = " (Kubernetes sets it for a Service of that name, unless the pod has enableServiceLinks: false)"


class ConfigError(Exception):
    """The settings cannot be used. `problems` lists everything that is wrong, one sentence or two each."""

    def __init__(
        self, problems: list[str], sound: Settings | None = None, warnings: Sequence[str] = ()
    ) -> None:
        """`sound` are the settings without the wrong ones: to go on checking with, never to start with."""
        super().__init__("\n".join(problems))
        self.problems = problems
        self.sound = sound
        self.warnings = list(warnings)


class _Given(NamedTuple):
    value: object
    name: str
    """The name as its source has it: `MQTT_PORT` in the environment, `mqtt_port` in gateway.toml."""
    source: str

    def __str__(self) -> str:
        return f"{self.name} ({self.source})"


def load_settings(config_file: Path | None = None, **overrides: object) -> Settings:
    """The settings from all sources. `overrides` are fields by name, from the command line; None: not given.

    Without `config_file`, `gateway.toml` in the working folder is read if it is there; `.env` likewise.
    Raises ConfigError with everything that is wrong.
    """
    return read_settings(config_file, **overrides)[0]


def read_settings(config_file: Path | None = None, **overrides: object) -> tuple[Settings, list[str]]:
    """As `load_settings`, and warnings about names that may be those of other programs."""
    problems: list[str] = []
    warnings: list[str] = []
    given: dict[str, _Given] = {}
    # From the weakest to the strongest.
    for source in (
        _toml(config_file, problems),
        _dotenv(Path(".env"), problems, warnings),
        _variables(os.environ.items(), "environment", problems, warnings),
        {name: _Given(value, name, "command line") for name, value in overrides.items() if value is not None},
    ):
        given.update(source)
    _read_secret_files(given, problems)
    settings = _validated(given, problems)
    if problems or settings is None:
        raise ConfigError(problems, settings, warnings)
    return settings, warnings


def _validated(given: Mapping[str, _Given], problems: list[str]) -> Settings | None:
    values = {name: item.value for name, item in given.items()}
    wrong: set[str] = set()
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_input=False, include_context=False):
            name = str(detail["loc"][0])
            wrong.add(name)
            if name in given:  # a default that is made from a wrong value is no problem of its own
                problems.append(_problem(given[name], detail["msg"], name))
        try:
            # Check what is right by itself for conflicts too, so that one run lists everything.
            settings = Settings.model_validate(
                {name: value for name, value in values.items() if name not in wrong}
            )
        except ValidationError:
            return None
    for names, problem in _conflicts(settings):
        if not wrong.intersection(names):
            where = " and ".join(str(given[name]) for name in names if name in given)
            problems.append(f"{where}: {problem}" if where else problem)
    return settings


def _problem(item: _Given, message: str, name: str) -> str:
    remedy = Settings.model_fields[name].description
    hint = _KUBERNETES if str(item.value).startswith("tcp://") else ""
    return f"{item}: {message.removeprefix('Value error, ')}. {remedy}{hint}."


def _conflicts(settings: Settings) -> Iterator[tuple[tuple[str, ...], str]]:
    """Settings that are right by themselves but not together: their fields, the problem and its remedy."""
    if not settings.tls_enabled:
        for name, binds in (
            ("gateway_mqtt_bind", settings.gateway_mqtt_bind),
            ("gateway_http_bind", settings.gateway_http_bind),
        ):
            if not all(bind.is_loopback for bind in binds):
                remedy = f"Give {name.upper()} 127.0.0.1:{binds[0].port}, or leave TLS on."
                yield ("tls_enabled", name), f"without TLS the gateway listens on loopback only. {remedy}"
        if settings.tls_client_ca_path is not None:
            yield (
                ("tls_enabled", "tls_client_ca_path"),
                "without TLS no client certificate is asked for. Leave TLS on, or remove TLS_CLIENT_CA_PATH.",
            )
    yield from _equal_binds(settings)
    if settings.jwt_chain_max < settings.jwt_ttl:
        yield (
            ("jwt_chain_max", "jwt_ttl"),
            "a token would outlive the chain that it begins. Give JWT_CHAIN_MAX as much as JWT_TTL, or more.",
        )
    if settings.mqtt_broker is None:
        for name in ("mqtt_username", "mqtt_password", "mqtt_ca_path"):
            if getattr(settings, name) is not None:
                yield (
                    (name, "mqtt_broker"),
                    "no bus is named, and an embedded one would be started. Set MQTT_BROKER, or remove it.",
                )
    elif settings.mqtt_password is not None and settings.mqtt_username is None:
        yield (
            ("mqtt_password", "mqtt_username"),
            "MQTT 3.1.1 has no password without a user name. Set MQTT_USERNAME.",
        )


def _equal_binds(settings: Settings) -> Iterator[tuple[tuple[str, ...], str]]:
    for first, second in combinations(("gateway_mqtt_bind", "gateway_http_bind", "gateway_health_bind"), 2):
        for one, other in product(getattr(settings, first), getattr(settings, second)):
            if one.overlaps(other):
                both = f"{first.upper()} {one} and {second.upper()} {other} can't both be listened at."
                yield (first, second), f"{both} Give one of them another port."


def _toml(path: Path | None, problems: list[str]) -> dict[str, _Given]:
    if path is None:
        path = Path("gateway.toml")
        if not _is_there(path, problems):
            return {}
    try:
        values = tomllib.loads(path.read_text("utf-8").removeprefix(_BOM))
    except OSError as error:
        problems.append(
            f"{path}: it cannot be read ({why(path, error)}). Name another file, or make it readable."
        )
        return {}
    except ValueError as error:
        problems.append(f"{path}: it is not TOML: {error}. Correct it.")
        return {}
    given: dict[str, _Given] = {}
    for name, value in values.items():
        item = _Given(value, name, str(path))
        # The file is the gateway's alone, so an unknown name in it was meant for the gateway.
        kind = kind_of_name(name)
        _take(
            given,
            item,
            kind if kind in {NameKind.KNOWN, NameKind.NOT_YET} else NameKind.WRONG,
            problems,
        )
    return _usable(given, problems)


def _is_there(path: Path, problems: list[str]) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        problems.append(f"{path}: it cannot be read ({why(path, error)}). Make it readable.")
        return False
    return True


def _dotenv(path: Path, problems: list[str], warnings: list[str]) -> dict[str, _Given]:
    if not _is_there(path, problems):
        return {}
    values: list[tuple[str, str]] = []
    try:
        with path.open(encoding="utf-8-sig") as file:
            for line in parse_stream(file):
                if line.error or (line.key is not None and line.value is None):
                    problems.append(
                        f"{path}: line {line.original.line} is not NAME=value. Correct or remove it."
                    )
                elif line.key is not None and line.value is not None:
                    values.append((line.key, line.value))
    except UnicodeDecodeError as error:
        problems.append(f"{path}: it cannot be read ({error}). Make it UTF-8 text, or take it away.")
    except OSError as error:
        said = why(path, error)
        problems.append(f"{path}: it cannot be read ({said}). Make it readable UTF-8 text, or take it away.")
    return _variables(values, str(path), problems, warnings)


def _variables(
    values: Iterable[tuple[str, str]], source: str, problems: list[str], warnings: list[str]
) -> dict[str, _Given]:
    given: dict[str, _Given] = {}
    for variable, value in values:
        kind = kind_of_name(variable)
        if kind is NameKind.DOUBTFUL:
            # Without its value: if it is a different program's, that may be a secret.
            warning = (
                f"{variable} ({source}): there is no such setting; it is ignored, as another program's. "
                f"{_meant(variable)}Take it away if it was meant for the gateway."
            )
            if warning not in warnings:
                warnings.append(warning)
        elif kind is not NameKind.FOREIGN:
            _take(given, _Given(value, variable, source), kind, problems)
    return _usable(given, problems)


def _take(given: dict[str, _Given], item: _Given, kind: NameKind, problems: list[str]) -> None:
    """Add a setting to `given`, what one source gives; or add the problem with its name."""
    name = item.name.lower()
    if kind is NameKind.NOT_YET:
        problems.append(f"{item}: this version does not have that setting yet. Remove it.")
    elif kind is NameKind.WRONG:
        hint = _KUBERNETES if name.endswith(("_service_host", "_service_port")) or "tcp" in name else ""
        problems.append(f"{item}: there is no such setting. {_meant(item.name)}Correct or remove it{hint}.")
    elif name in given and given[name].name != item.name:
        problems.append(f"{given[name]} and {item}: both are the same setting. Keep one of them.")
    else:
        given[name] = item


def _meant(name: str) -> str:
    near = meant(name)
    if near is None:
        return "README.md lists all that there are, under Settings. "
    return f"Did you mean {near.upper() if name.isupper() else near}? "


def _usable(given: dict[str, _Given], problems: list[str]) -> dict[str, _Given]:
    """What is not empty. An empty value counts as not given, unless that would give less protection."""
    for name, item in given.items():
        if item.value == "" and name in UNSAFE_WHEN_EMPTY:
            problems.append(
                f"{item}: it is empty, which is no value, and without one there is less protection. "
                "Give it a value, or remove it."
            )
    return {name: item for name, item in given.items() if item.value != ""}


def _read_secret_files(given: dict[str, _Given], problems: list[str]) -> None:
    """Put what stands in the file of `x_file` in the place of `x`."""
    for name, file_name in FILE_OF.items():
        item = given.pop(file_name, None)
        if item is None:
            continue
        if name in given:
            problems.append(f"{item} and {given[name]}: both are given. Keep one of them.")
            continue
        path = Path(str(item.value))
        try:
            text = path.read_text("utf-8")
        except OSError as error:
            said = why(path, error)
            problems.append(f"{item}: {item.value} cannot be read ({said}). Name a readable file.")
            continue
        except UnicodeDecodeError:
            problems.append(f"{item}: {item.value} is not UTF-8 text. Write the secret as text.")
            continue
        # Some editors put a byte order mark before UTF-8 text, and a line feed after it.
        text = text.removeprefix(_BOM).removesuffix("\n").removesuffix("\r")
        if not text:
            problems.append(f"{item}: {item.value} is empty. Write the secret into it.")
            continue
        given[name] = item._replace(value=text)
