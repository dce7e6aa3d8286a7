"""Asks other services whether they are there: a page over HTTP, or a connection over TCP.

For the checks of monitoring.toml. Certificates are verified by the system's CAs, redirects are not followed,
and of an answer only its first line is read. The caller sets the time-out.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from functools import lru_cache
from urllib.parse import quote, urlsplit

from gateway.system.connect_errors import why_unreachable
from gateway.system.ip_address_blocks import Address
from gateway.system.name_lookup import addresses_of
from gateway.system.tls_floor import raise_to_floor

_LINE_BYTES_MAX = 4_096
"""Bytes of a status line that are read."""
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})\b")
_PORTS = {"http": 80, "https": 443}


async def ask_page(url: str) -> tuple[bool, str]:
    """Whether the page answers with a status of 200 to 299, and what it answers, in words."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    tls = await asyncio.to_thread(_system_cas) if parts.scheme == "https" else None
    try:
        reader, writer = await _connected(host, parts.port or _PORTS[parts.scheme], tls)
    except OSError as error:
        return False, f"can't be reached: {why_unreachable(error)}"
    try:
        writer.write(_request(host, parts.port, parts.path, parts.query))
        line = await reader.readuntil(b"\n")
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return False, "it is reached, and does not answer in HTTP"
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    status = _STATUS.match(line)
    if status is None:
        return False, "it is reached, and does not answer in HTTP"
    code = int(status[1])
    return 200 <= code < 300, f"it answers {code}"


async def ask_port(address: Address) -> tuple[bool, str]:
    """Whether a connection to this address is accepted, and in words what happened."""
    try:
        _, writer = await _connected(address.host, address.port, None)
    except OSError as error:
        return False, f"can't be reached: {why_unreachable(error)}"
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True, "it accepts connections"


async def _connected(
    host: str, port: int, tls: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the first address of this host that takes one. Raises OSError: why the last did not."""
    last: OSError = OSError(f"{host} has no address")
    for *_, address in await addresses_of(host, port):
        try:
            return await asyncio.open_connection(
                address[0], port, ssl=tls, server_hostname=host if tls else None, limit=_LINE_BYTES_MAX
            )
        except OSError as error:
            last = error
    try:
        raise last
    finally:
        del last  # its traceback holds this frame


def _request(host: str, port: int | None, path: str, query: str) -> bytes:
    where = f"[{host}]" if ":" in host else host.encode("idna").decode()
    named = where if port is None else f"{where}:{port}"
    target = quote(path or "/", safe="/%:@!$&'()*+,;=~-._")
    if query:
        target += f"?{quote(query, safe='%=&+/:@~-._')}"
    return (
        f"GET {target} HTTP/1.1\r\nHost: {named}\r\nUser-Agent: mqtt-security-gateway\r\n"
        "Accept: */*\r\nConnection: close\r\n\r\n"
    ).encode()


@lru_cache(maxsize=1)
def _system_cas() -> ssl.SSLContext:
    return raise_to_floor(ssl.create_default_context())
