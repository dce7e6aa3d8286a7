"""An answer that is given before its request is complete, and still reaches a peer that is sending.

If the connection were closed at once the kernel would answer the rest with a reset, and the peer would lose
the answer (413, say) if it has not read it yet. Must not know what is answered.
"""

from __future__ import annotations

import asyncio
import contextlib

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_SECONDS_MAX = 2.0
_BYTES_MAX = 1_048_576
"""How long, and for how many bytes, it goes on reading from a peer that was answered early."""


class LingeringAnswers:
    """The application, which answers first, and then drops what the peer is still sending."""

    def __init__(self, application: ASGIApp) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        whole = False

        async def listen() -> Message:
            nonlocal whole
            message = await receive()
            whole = not message.get("more_body")
            return message

        async def drop_the_rest() -> None:
            left = _BYTES_MAX
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SECONDS_MAX):
                    while left > 0 and not whole:
                        left -= len((await listen()).get("body", b""))

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                await send({**message, "more_body": True})
                await drop_the_rest()
                message = {"type": "http.response.body"}
            await send(message)

        # Only `close` cancels, once the peer is gone; uvicorn would log that as a fault.
        with contextlib.suppress(asyncio.CancelledError):
            await self._application(scope, listen, answer)
