"""Where the settings come from, and the one place that tells what is wrong with them."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from dotenv.parser import parse_stream
from pydantic import ValidationError

from gateway.config.settings import SECRETS, Settings

# What other software may set for itself (LOG_, REDIS_, DATABASE_) is not ours to judge.
_PREFIXES = (
    "GATEWAY_",
    "MQTT_",
    "TLS_",
    "JWT_",
    "ENCRYPTION_",
    "ACL_",
    "SERVICE_TOPIC_",
    "HEALTH_CHECK_",
    "METRICS_",
)
_FILE_OF = {name: f"{name}_file" for name in SECRETS}
_KNOWN = frozenset(Settings.model_fields) | frozenset(_FILE_OF.values())
_KUBERNETES = " (Kubernetes sets it for a Service of that name, unless the pod has enableServiceLinks: false)"


class ConfigError(Exception):
    """The settings cannot be used. `problems` lists everything that is wrong, one sentence or two each."""

    def __init__(self, problems: list[str], sound: Settings | None = None) -> None:
        """`sound` is what they would be without the wrong ones: good for looking on, not for starting."""
        super().__init__("\n".join(problems))
        self.problems = problems
        self.sound = sound


class _Given(NamedTuple):
    value: object
    name: str
    """As it is written there: `MQTT_PORT` in the environment, `mqtt_port` in gateway.toml."""
    source: str

    def __str__(self) -> str:
        return f"{self.name} ({self.source})"


def load_settings(config_file: Path | None = None, **overrides: object) -> Settings:
    """The settings from all sources. `overrides` are fields by name, from the command line; None: not given.

    Without `config_file`, `gateway.toml` in the working folder is read if it is there; `.env` likewise.
    Raises ConfigError with everything that is wrong.
    """
    problems: list[str] = []
    given: dict[str, _Given] = {}
    # From the weakest to the strongest.
    for source in (
        _toml(config_file, problems),
        _dotenv(Path(".env"), problems),
        _variables(os.environ, "environment", problems),
        {name: _Given(value, name, "command line") for name, value in overrides.items() if value is not None},
    ):
        given.update(source)
    _read_secret_files(given, problems)
    settings = _validated(given, problems)
    if problems or settings is None:
        raise ConfigError(problems, settings)
    return settings


def _validated(given: Mapping[str, _Given], problems: list[str]) -> Settings | None:
    values = {name: item.value for name, item in given.items()}
    wrong: set[str] = set()
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_input=False, include_context=False):
            name = str(detail["loc"][0])
            wrong.add(name)
            if name in given:  # a default that hangs on a wrong value is no problem of its own
                problems.append(_problem(given[name], detail["msg"], name))
        try:
            # Judged together with what is right, so that one run tells everything.
            settings = Settings.model_validate(
                {name: value for name, value in values.items() if name not in wrong}
            )
        except ValidationError:
            return None
    for names, problem in _conflicts(settings):
        if not wrong.intersection(names):
            where = " and ".join(str(given[name]) for name in names if name in given)
            problems.append(f"{where}: {problem}")
    return settings


def _problem(item: _Given, message: str, name: str) -> str:
    remedy = Settings.model_fields[name].description
    hint = _KUBERNETES if str(item.value).startswith("tcp://") else ""
    return f"{item}: {message.removeprefix('Value error, ')}. {remedy}{hint}."


def _conflicts(settings: Settings) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is right by itself but not together: the fields concerned, and the problem with its remedy."""
    if not settings.tls_enabled:
        for name, bind in (
            ("gateway_mqtt_bind", settings.gateway_mqtt_bind),
            ("gateway_http_bind", settings.gateway_http_bind),
        ):
            if not bind.is_loopback:
                remedy = f"Give {name.upper()} 127.0.0.1:{bind.port}, or leave TLS on."
                yield ("tls_enabled", name), f"without TLS the gateway listens on loopback only. {remedy}"
        if settings.tls_client_ca_path is not None:
            yield (
                ("tls_enabled", "tls_client_ca_path"),
                "without TLS no client certificate is asked for. Leave TLS on, or remove TLS_CLIENT_CA_PATH.",
            )
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


def _toml(path: Path | None, problems: list[str]) -> dict[str, _Given]:
    if path is None:
        path = Path("gateway.toml")
        if not path.exists():
            return {}
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        problems.append(
            f"{path}: it cannot be read ({error.strerror}). Name another file, or make it readable."
        )
        return {}
    except ValueError as error:
        problems.append(f"{path}: it is not TOML: {error}. Correct it.")
        return {}
    given = {name: _Given(value, name, str(path)) for name, value in values.items()}
    return {name: item for name, item in given.items() if _is_usable(name, item, problems)}


def _dotenv(path: Path, problems: list[str]) -> dict[str, _Given]:
    if not path.exists():
        return {}
    values: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8") as file:
            for line in parse_stream(file):
                if line.error or (line.key is not None and line.value is None):
                    problems.append(
                        f"{path}: line {line.original.line} is not NAME=value. Correct or remove it."
                    )
                elif line.key is not None and line.value is not None:
                    values[line.key] = line.value
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{path}: it cannot be read ({error}). Make it readable UTF-8 text, or take it away.")
    return _variables(values, str(path), problems)


def _variables(values: Mapping[str, str], source: str, problems: list[str]) -> dict[str, _Given]:
    given: dict[str, _Given] = {}
    for variable, value in values.items():
        name = variable.lower()
        if not variable.isupper() or not (name in _KNOWN or variable.startswith(_PREFIXES)):
            continue
        item = _Given(value, variable, source)
        if _is_usable(name, item, problems):
            given[name] = item
    return given


def _is_usable(name: str, item: _Given, problems: list[str]) -> bool:
    if name not in _KNOWN:
        near = difflib.get_close_matches(name.lower(), _KNOWN, n=1)
        guess = near[0].upper() if item.name.isupper() and near else "".join(near)
        meant = f" Did you mean {guess}?" if near else ""
        hint = _KUBERNETES if name.endswith(("_service_host", "_service_port")) or "tcp" in name else ""
        problems.append(f"{item}: there is no such setting.{meant} Correct or remove it{hint}.")
        return False
    if item.value == "":
        # Often a variable that was not substituted; the default in its place might be a weaker choice.
        problems.append(f"{item}: it is empty. Give it a value, or remove it for the default.")
        return False
    return True


def _read_secret_files(given: dict[str, _Given], problems: list[str]) -> None:
    """Put what stands in the file of `x_file` in the place of `x`."""
    for name, file_name in _FILE_OF.items():
        item = given.pop(file_name, None)
        if item is None:
            continue
        if name in given:
            problems.append(f"{item} and {given[name]}: both are given. Keep one of them.")
            continue
        try:
            text = Path(str(item.value)).read_text("utf-8")
        except OSError as error:
            problems.append(f"{item}: {item.value} cannot be read ({error.strerror}). Name a readable file.")
            continue
        except UnicodeDecodeError:
            problems.append(f"{item}: {item.value} is not UTF-8 text. Write the secret as text.")
            continue
        text = text.removesuffix("\n").removesuffix("\r")
        if not text:
            problems.append(f"{item}: {item.value} is empty. Write the secret into it.")
            continue
        given[name] = item._replace(value=text)
