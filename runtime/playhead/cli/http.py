"""`playhead http`: the HTTP API alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from socket import socket

    from playhead.config import Settings

HTTP_PORT = 3002
Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")]


def http(
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on; 0 picks a free one.")] = HTTP_PORT,
) -> None:
    """Serve the HTTP API: POST /trigger, POST /api/events, /healthz, /readyz."""
    from playhead.cli.connection import run_fast, settings_of
    from playhead.cli.logs import configure_logging
    from playhead.cli.project import find_project
    from playhead.http import listen

    configure_logging()
    project = find_project()
    project.import_catalog()
    sockets = listen(host, port)
    if run_fast(_serve(settings_of(project), sockets)):
        raise KeyboardInterrupt


async def _serve(settings: Settings, sockets: Sequence[socket]) -> bool:
    """Serve until a signal; whether it was Ctrl-C."""
    import structlog

    from playhead import Client
    from playhead.cli.connection import connected
    from playhead.cli.notify import Notifier
    from playhead.cli.stopping import Stopping
    from playhead.http import create_app, reaches, serve, url_of

    stop, notifier = asyncio.Event(), Notifier()
    stopping = Stopping(stop.set, notifier)
    stopping.watch_signals()
    url = url_of(sockets)

    def started() -> None:
        structlog.get_logger("playhead.http").info("listening", url=url)
        notifier.send(READY="1", STATUS=f"listening on {url}")

    async with connected(settings) as broker:
        app = create_app(Client("http", broker=broker), broker_reached=reaches(broker))
        await serve(app, sockets=sockets, stop=stop, started=started)
    notifier.close()
    return stopping.by_ctrl_c
