"""Each setting: its name, its type, its default, and what to do when a value does not fit.

A validator's message may show the value only where it can hold no secret: not in URLs, not in hosts.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from enum import StrEnum
from itertools import combinations
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from gateway.config.sample_secrets import is_sample
from gateway.keys.key_kinds import AUDIT_FILE
from gateway.keys.secret_values import Secret
from gateway.keys.wrapping import Wrapping
from gateway.policy.engine.rules import OnDeniedWill, OnDeny
from gateway.system.ip_address_blocks import Address, IPNetwork


class LogLevel(StrEnum):
    """The least severe level that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """How a line of the log looks."""

    JSON = "json"
    TEXT = "text"


_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_DURATION = re.compile(r"(\d{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_TOKEN_SECRET_BYTES = 32
_EVERYWHERE = "0.0.0.0"  # noqa: S104 - a gateway is there to be reached; TLS and logins protect it


def _host(text: object) -> object:
    if isinstance(text, str):
        try:
            ipaddress.ip_address(text)
        except ValueError:
            if not _HOST.fullmatch(text):
                raise ValueError("this is not a host name or an IP address") from None
    return text


def _address(value: object) -> object:
    if not isinstance(value, str):
        return value
    host, colon, port = value.rpartition(":")
    if ":" in host and host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif not colon or ":" in host:
        raise ValueError(f"{value!r} is not host:port")
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65_535:
        raise ValueError(f"{value!r} has no port from 0 to 65535")
    _host(host)
    return Address(host, int(port))


def _binds(value: object) -> object:
    texts = value.split(",") if isinstance(value, str) else value
    if isinstance(texts, Address) or not isinstance(texts, list | tuple) or not texts:
        return (value,) if isinstance(value, Address) else value
    binds = [_address(text.strip() if isinstance(text, str) else text) for text in texts]
    for one, other in combinations([bind for bind in binds if isinstance(bind, Address)], 2):
        # 0.0.0.0 and :: together are the two address families, each by itself.
        if one.overlaps(other) and {one.host, other.host} != {_EVERYWHERE, "::"}:
            raise ValueError(f"{one} and {other} are one address")
    return tuple(binds)


def _networks(value: object) -> object:
    texts = value.split(",") if isinstance(value, str) else value
    if not isinstance(texts, list | tuple):
        return value
    networks = [_network(text.strip()) if isinstance(text, str) else text for text in texts]
    four = [one for one in networks if isinstance(one, ipaddress.IPv4Network)]
    six = [one for one in networks if isinstance(one, ipaddress.IPv6Network)]
    # Also if two halves together are everybody: a gateway that trusts everybody trusts an attacker.
    together: list[IPNetwork] = [*ipaddress.collapse_addresses(four), *ipaddress.collapse_addresses(six)]
    if any(one.prefixlen == 0 for one in together):
        raise ValueError("this is everybody, and everybody could claim any address")
    return tuple(networks)


def _network(text: str) -> IPNetwork:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        if "has host bits set" in str(error):
            meant = ipaddress.ip_network(text, strict=False)
            raise ValueError(f"{text!r} is not a network, but an address in {meant}") from None
        raise ValueError(f"{text!r} is not a network or an IP address") from None
    if network.version == 6 and network.network_address.ipv4_mapped is not None:
        raise ValueError(f"{text!r} stands for IPv4 addresses, which are written as such")
    return network


def _duration(value: object) -> object:
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{value!r} is not a duration")
    return int(match[1]) * _SECONDS[match[2]]


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _secret(value: object) -> object:
    if isinstance(value, str) and is_sample(value):
        raise ValueError("this is a sample out of some example, which everybody knows: make one of your own")
    # surrogateescape: what the environment held, byte for byte, also where it is not UTF-8.
    return Secret(value.encode("utf-8", "surrogateescape")) if isinstance(value, str) else value


def _jwt_secret(value: object) -> object:
    secret = _secret(value)
    if isinstance(secret, Secret) and len(secret.reveal()) < _TOKEN_SECRET_BYTES:
        raise ValueError("this is shorter than 32 bytes, and short keys can be guessed")
    return secret


def _encryption_key(value: object) -> object:
    _secret(value)
    return Wrapping.of_text(value) if isinstance(value, str) else value


def _topic_prefix(value: object) -> object:
    if isinstance(value, str):
        if not all(value.split("/")) or value.startswith("$"):
            raise ValueError(f"{value!r} has an empty level, or begins with a slash or $")
        if re.search(r"[+#\x00-\x1f\x7f-\x9f]", value):
            raise ValueError(f"{value!r} has a wildcard or a control character in it")
    return value


def _database_url(value: object) -> object:
    if isinstance(value, str):
        if value.startswith("postgres"):
            raise ValueError("this version keeps its devices in SQLite only")
        if not re.fullmatch(r"sqlite:///[^?:]+", value):
            raise ValueError("this is not sqlite:///path, without options")
    return value


def _redis_url(value: object) -> object:
    if isinstance(value, str) and not re.match(r"rediss?://.", value):
        raise ValueError("this is not redis://… or rediss://…")
    return value


def _one_worker(value: int) -> int:
    if value != 1:
        raise ValueError("this version serves with one process, not yet with several")
    return value


_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _node(value: object) -> object:
    if isinstance(value, str) and not _NODE.fullmatch(value):
        raise ValueError(f"{value!r} is no name of a node")
    return value


def _host_name() -> str:
    name = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()).lstrip("._-")[:64]
    return name or "gateway"


Host = Annotated[str, BeforeValidator(_host)]
HostAndPort = Annotated[Address, BeforeValidator(_address)]
Binds = Annotated[tuple[Address, ...], BeforeValidator(_binds)]
Networks = Annotated[tuple[IPNetwork, ...], BeforeValidator(_networks)]
Seconds = Annotated[int, BeforeValidator(_duration)]
Masked = Annotated[Secret, BeforeValidator(_secret)]


SECRETS = ("mqtt_password", "jwt_secret", "encryption_key", "database_url", "redis_url")
"""Settings that are secret or may hold a secret. Each may come as `<name>_file`, the file it stands in."""


class Settings(BaseModel):
    """The settings in force, checked. The field `x_y` is the setting `X_Y`."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True
    )

    mqtt_broker: Host | None = Field(
        None, description="Give the bus's host name or address alone; its port is MQTT_PORT"
    )
    mqtt_port: int = Field(1883, ge=1, le=65_535, description="Give the bus's port, 1 to 65535")
    mqtt_username: str | None = Field(None, description="Give the user name the bus expects of the gateway")
    mqtt_password: Masked | None = Field(None, description="Give the password the bus expects of the gateway")
    mqtt_ca_path: Path | None = Field(
        None, description="Give the file of the CA that signed the bus's certificate"
    )

    gateway_data_dir: Path = Field(Path("data"), description="Give the folder for the store and the keys")
    database_url: Annotated[str, BeforeValidator(_database_url)] = Field(
        default_factory=lambda data: f"sqlite:///{data['gateway_data_dir']}/gateway.db",
        repr=False,  # one of PostgreSQL carries a password
        description="Give sqlite:///path/to/file.db",
    )
    redis_url: Annotated[str, BeforeValidator(_redis_url)] | None = Field(
        None, repr=False, description="Give redis://host:port/number"
    )

    gateway_mqtt_bind: Binds = Field(
        (Address(_EVERYWHERE, 8883),),
        description="Give host:port, such as 0.0.0.0:8883 or [::]:8883, or several with commas between",
    )
    gateway_http_bind: Binds = Field(
        (Address(_EVERYWHERE, 8443),),
        description="Give host:port, such as 0.0.0.0:8443 or [::]:8443, or several with commas between",
    )
    gateway_health_bind: Binds = Field(
        (Address("127.0.0.1", 8000),),
        description="Give host:port, such as 127.0.0.1:8000 or [::]:8000, or several with commas between",
    )

    gateway_proxy_from: Networks = Field(
        (),
        description="Give the proxies alone, such as 10.0.0.2, or their network, such as 172.31.83.0/29, "
        "with commas between",
    )

    tls_enabled: bool = Field(default=True, description="Give true or false")
    tls_cert_path: Path = Field(
        Path("certs/server.crt"), description="Give the file of the server's certificate"
    )
    tls_key_path: Path = Field(
        Path("certs/server.key"), description="Give the file of the server's private key"
    )
    tls_client_ca_path: Path | None = Field(
        None, description="Give the file of the CA whose certificates may log devices in"
    )

    jwt_secret: Annotated[Secret, BeforeValidator(_jwt_secret)] | None = Field(
        None, description="Give at least 32 random bytes, such as the output of `openssl rand -base64 32`"
    )
    jwt_ttl: Seconds = Field(
        86_400, ge=1, le=31_622_400, description="Give a number and s, m, h or d, such as 24h"
    )
    jwt_chain_max: Seconds = Field(
        # If JWT_TTL is longer than 30 days, so is the chain: it is never shorter than one of its tokens.
        default_factory=lambda data: max(30 * 86_400, data["jwt_ttl"]),
        ge=1,
        le=316_224_000,
        description="Give a number and s, m, h or d, such as 30d",
    )

    encryption_key: Annotated[Wrapping, BeforeValidator(_encryption_key)] | None = Field(
        None,
        description="Give 32 bytes as base64 or hex, such as the output of `openssl rand -base64 32`, or a "
        "passphrase",
    )
    encryption_key_path: Path = Field(
        default_factory=lambda data: data["gateway_data_dir"] / "keys" / "encryption.key",
        description="Give the file of the sealing keys",
    )

    acl_path: Path = Field(Path("acl"), description="Give the folder of the policy")
    service_topic_prefix: Annotated[str, BeforeValidator(_topic_prefix)] = Field(
        "gateway", min_length=1, max_length=256, description="Give plain topic levels, such as gateway"
    )
    gateway_bus_services: bool = Field(default=False, description="Give true or false")
    gateway_on_deny: Annotated[OnDeny, BeforeValidator(_lower)] = Field(
        OnDeny.DROP, description="Give drop or disconnect"
    )
    gateway_on_denied_will: Annotated[OnDeniedWill, BeforeValidator(_lower)] = Field(
        OnDeniedWill.REFUSE, description="Give refuse or drop"
    )
    gateway_node: Annotated[str, BeforeValidator(_node)] = Field(
        default_factory=_host_name,
        description="Give up to 64 letters, digits, dots, dashes and underscores, a letter or digit first",
    )
    gateway_workers: Annotated[int, AfterValidator(_one_worker)] = Field(
        1, description="Give 1 or leave it out"
    )

    monitoring_path: Path = Field(
        Path("monitoring.toml"), description="Give the file of checks, alerts and channels; it may be absent"
    )
    metrics_enabled: bool = Field(default=True, description="Give true or false")
    audit_retention: Seconds = Field(
        365 * 86_400,
        ge=86_400,
        le=316_224_000,
        description="Give a number and d, such as 365d; a day at least",
    )
    log_level: Annotated[LogLevel, BeforeValidator(_lower)] = Field(
        LogLevel.INFO, description="Give debug, info, warning or error"
    )
    log_format: Annotated[LogFormat, BeforeValidator(_lower)] | None = Field(
        None, description="Give json or text; without it, text on a terminal and json elsewhere"
    )
    health_check_interval: int = Field(30, ge=1, le=86_400, description="Give seconds, 1 to 86400")

    @property
    def bus(self) -> Address | None:
        """The bus to connect to; None for the embedded one."""
        return None if self.mqtt_broker is None else Address(self.mqtt_broker, self.mqtt_port)

    @property
    def signing_key_path(self) -> Path:
        """The file of the keys that sign tokens, beside that of the sealing keys."""
        return self.encryption_key_path.with_name("signing.key")

    @property
    def audit_key_path(self) -> Path:
        """The file of the key that signs the audit trail, beside that of the sealing keys."""
        return self.encryption_key_path.with_name(AUDIT_FILE)

    @property
    def audit_path(self) -> Path:
        """The folder of the audit trail."""
        return self.gateway_data_dir / "audit"

    @property
    def database_path(self) -> Path:
        """The file of the SQLite database."""
        return Path(self.database_url.removeprefix("sqlite:///"))
