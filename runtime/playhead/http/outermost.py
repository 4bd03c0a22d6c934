"""The outermost layer: what nobody expected becomes an answer without internals, and the log gets the rest."""

from __future__ import annotations

import asyncio

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from playhead.http.answers import stopping, unexpected

logger = structlog.get_logger("playhead.http")


class Outermost:
    """ASGI middleware. It also answers HEAD wherever there is a GET; the server leaves the body out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            pass  # in the middle of its body: nothing was sent, and nobody is there to be told
        except asyncio.CancelledError:
            # The server's grace ran out. The append goes on or not: nobody can tell, so nothing is acknowledged.
            if not started:
                await stopping()(scope, receive, send)
            raise
        except Exception:
            logger.exception("request failed", method=scope["method"], path=scope["path"])
            if started:
                raise  # the server cuts the connection: half an answer must not look like a whole one
            await unexpected()(scope, receive, send)
