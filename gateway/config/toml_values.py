"""Values in monitoring.toml: times, words from a list, addresses, URLs, and what is wrong with them."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from gateway.alerts.rules import Severity
from gateway.config.settings import HostAndPort, Seconds
from gateway.observe.terminal_escaping import printable
from gateway.policy.files.toml_document import Block
from gateway.system.ip_address_blocks import Address

DAY = 86_400
"""Seconds."""


def url_fault(url: str, schemes: tuple[str, ...]) -> str:
    """What is wrong with a URL, in words that do not show it, for it may be secret; empty if nothing is."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "it is no URL"
    if parts.scheme not in schemes:
        if parts.scheme == "http":
            return (
                "http:// is for the local network alone, with allow_private_addresses = true; write https://"
            )
        return f"it is no URL that begins with {' or '.join(f'{one}://' for one in schemes)}"
    if not host or port == 0 or not url.isascii() or not url.isprintable() or " " in url:
        return "it is no URL with a host, in ASCII characters"
    if parts.username is not None or parts.password is not None:
        return "it has a user name in it; that is not sent"
    return "it has a part after #, which is not sent" if parts.fragment else ""


def host_and_port(text: str) -> tuple[Address, str]:
    """The address, and what is wrong with it; empty if nothing is."""
    try:
        address = TypeAdapter(HostAndPort).validate_python(text)
    except ValidationError as error:
        return Address("", 0), error.errors()[0]["msg"].removeprefix("Value error, ")
    return address, "" if address.port else f"{text!r} has no port from 1 to 65535"


def one_of(block: Block, key: str, known: tuple[str, ...], default: str | None = None) -> str:
    """One of these words; empty for any other, which is a problem of the block."""
    word = block.text(key, default)
    if word in known or (not word and not isinstance(block.values.get(key, default), str)):
        return word
    block.problem(f'"{key}" is one of {", ".join(known)}, not "{cut(word)}"', key=key)
    return ""


def seconds(block: Block, key: str, default: int | None, *, least: int) -> int:
    """A time with its unit, at most a day, in seconds. Without a default it has to be there."""
    value = block.values.get(key)
    if value is None and default is not None:
        return default
    if value is None:
        block.problem(f'"{key}" is missing: a number and s, m, h or d, such as "5m"')
        return 0
    try:
        found = int(TypeAdapter(Seconds).validate_python(value))
    except ValidationError:
        found = -1
    if not least <= found <= DAY:
        shown = f'"{cut(value)}"' if isinstance(value, str) else repr(value)
        block.problem(
            f'"{key}" is a number and s, m, h or d in quotes, {least}s to 1d, such as "5m", not {shown}',
            key=key,
        )
        return default or 0
    return found


def cut(text: str) -> str:
    """Text of the file, shortened and escaped to be quoted in a problem."""
    return printable(text if len(text) <= 200 else f"{text[:200]}…")


def severity_of(block: Block, key: str, default: Severity | None) -> Severity:
    """One of the severities."""
    found = one_of(block, key, tuple(Severity), default)
    return Severity(found) if found else Severity.INFO
