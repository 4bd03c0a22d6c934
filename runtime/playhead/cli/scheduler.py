"""`playhead scheduler`: sends events when they are due, until it is told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def scheduler(
    data_dir: Annotated[
        Path | None, typer.Option(help="For its stores, which are only a cache; else .playhead/timers of the project.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Serve /healthz, /readyz and /metrics on this port.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address for --port; 0.0.0.0 for all.")] = "127.0.0.1",
) -> None:
    """Send events that were given a delay or a time, and those of crons and intervals.

    Several share the work. SIGTERM or Ctrl-C ends it; what is due meanwhile is sent by the next.
    """
    from playhead.cli.connection import settings_of
    from playhead.cli.hosting import host_scheduler
    from playhead.cli.logs import configure_logging
    from playhead.cli.project import find_project
    from playhead.cli.stores import STORES, own_folder

    configure_logging()
    project = find_project()
    sockets = None
    if port is not None:
        from playhead.http import listen

        sockets = listen(host, port)
    with own_folder(data_dir or project.data_dir / STORES) as folder:
        host_scheduler(settings_of(project), folder, sockets=sockets)
