"""`playhead http`: the HTTP API alone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from socket import socket

    from playhead import Client
    from playhead.broker.contract import Broker
    from playhead.cli.project import Project
    from playhead.config import Settings
    from playhead.history.opening import Reading
    from playhead.job import Job

HTTP_PORT = 3002
Host = Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")]


def http(
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on; 0 picks a free one.")] = HTTP_PORT,
) -> None:
    """Serve the dashboard at /, and the HTTP API: POST /trigger and the others."""
    from playhead.cli.connection import run_fast, settings_of
    from playhead.cli.history import database_url
    from playhead.cli.logs import configure_logging, log_line
    from playhead.cli.project import find_project
    from playhead.cli.stores import lists_folder, own_folder
    from playhead.history.opening import Reading
    from playhead.http import listen

    configure_logging()
    project = find_project()
    project.import_catalog()
    settings = settings_of(project, tell=log_line)
    sockets = listen(host, port)
    with own_folder(lists_folder(project)) as folder, Reading(database_url(project, settings)) as history:
        by_ctrl_c = run_fast(_serve(settings, sockets, folder, history, _jobs_of(project)))
    if by_ctrl_c:
        raise KeyboardInterrupt


async def _serve(
    settings: Settings, sockets: Sequence[socket], folder: Path, history: Reading, jobs: Sequence[Job]
) -> bool:
    """Serve until a signal, with the broker or without; whether it was Ctrl-C."""
    import structlog

    from playhead import Client
    from playhead.cli.notify import Notifier
    from playhead.cli.stopping import Stopping
    from playhead.dashboard import Dashboard
    from playhead.http import create_app, reaches, serve, url_of

    stop, notifier = asyncio.Event(), Notifier()
    stopping = Stopping(stop.set, notifier)
    stopping.watch_signals()
    url = url_of(sockets)
    client = Client("http", settings=settings)
    found: list[Broker] = []

    async def reached() -> bool:
        return bool(found) and await reaches(found[0])()

    def started() -> None:
        structlog.get_logger("playhead.http").info("listening", url=url)
        notifier.send(READY="1", STATUS=f"listening on {url}")

    reaching = asyncio.create_task(_reach(settings, client, found), name="reach the broker")
    reaching.add_done_callback(lambda _: stop.set())  # it ends by itself only where a person has to act
    try:
        dashboard = Dashboard(history, client, jobs=jobs)
        app = create_app(client, broker_reached=reached, timers_folder=folder, history=history, pages=dashboard.routes)
        async with dashboard.open_until(stop):
            await serve(app, sockets=sockets, stop=stop, started=started)
    finally:
        failed = reaching.done()
        reaching.cancel()
        await asyncio.wait({reaching})
        await client.close()
        notifier.close()
    if failed:
        reaching.result()
    return stopping.by_ctrl_c


def _jobs_of(project: Project) -> list[Job]:
    """What the dashboard says of jobs beyond their runs; the API needs none of it, so it starts without, too."""
    import structlog

    from playhead.cli.targets import find_jobs
    from playhead.errors import PlayheadError

    try:
        return [found.job for found in find_jobs((), project)]
    except PlayheadError as error:
        structlog.get_logger("playhead.http").info("the dashboard knows jobs by their runs alone", why=error.message)
        return []


async def _reach(settings: Settings, client: Client, found: list[Broker]) -> None:
    """Wait for the broker, and keep it for the questions of /readyz; the client gets its connections too.

    Raises:
        Fatal: waiting would not help.
    """
    from playhead.cli.reaching import awaited

    async def connect(broker: Broker) -> None:
        await client.start()

    async with awaited(settings, connect) as broker:
        found.append(broker)
        await asyncio.Event().wait()
