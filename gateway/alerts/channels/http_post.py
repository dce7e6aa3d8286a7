"""HTTP POST for the channels that need it: allowed addresses, verified TLS, no redirects, no proxies."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from gateway.alerts.channels.allowed_addresses import allowed_sockets, reason_of, tls_context
from gateway.alerts.channels.channel import SECONDS_MAX, NotDelivered
from gateway.system.name_lookup import addresses_of

_SAID_MAX = 200
"""Bytes of an answer that are looked at."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said."""

    status: int
    said: str
    """The beginning of the body."""

    @property
    def ok(self) -> bool:
        """Whether it took what was posted."""
        return 200 <= self.status < 300


class _Resolver(AbstractResolver):
    """Looks names up apart from those of the bus; its own would do it as they are looked up."""

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - aiohttp asks for all
    ) -> list[ResolveResult]:
        """All addresses, of whatever family."""
        return [
            ResolveResult(
                hostname=host,
                host=address[0],
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST,
            )
            for kind, _, protocol, _, address in await addresses_of(host, port)
        ]

    async def close(self) -> None:
        """Nothing is held."""


async def post(
    url: str, body: bytes, headers: Mapping[str, str], *, private: bool, ca_file: Path | None = None
) -> Answer:
    """Post `body`. Raises NotDelivered, whose text never shows the URL: it may be a secret."""
    try:
        async with asyncio.timeout(SECONDS_MAX):
            context = await asyncio.to_thread(tls_context, ca_file)
            connector = aiohttp.TCPConnector(
                ssl=context,
                socket_factory=allowed_sockets(private=private, plain=url.startswith("http:")),
                resolver=_Resolver(),
                use_dns_cache=False,
                force_close=True,
            )
            async with (
                aiohttp.ClientSession(connector=connector, trust_env=False) as session,
                session.post(url, data=body, headers=headers, allow_redirects=False) as answer,
            ):
                said = await answer.content.read(_SAID_MAX)
                return Answer(answer.status, said.decode("utf-8", "replace"))
    except aiohttp.ClientConnectorCertificateError as error:
        raise NotDelivered(reason_of(error.certificate_error)) from None
    except aiohttp.ClientConnectorError as error:
        raise NotDelivered(reason_of(error.os_error)) from None
    except (aiohttp.ClientError, OSError) as error:
        # Not their text: some of it quotes the URL.
        raise NotDelivered(reason_of(error)) from None
