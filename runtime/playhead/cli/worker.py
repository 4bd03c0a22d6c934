"""`playhead worker`: runs jobs until it is told to stop."""

from __future__ import annotations

from typing import Annotated

import typer

from playhead.cli.names import complete_job

DEFAULT_GRACE_SECONDS = 30.0
Grace = Annotated[float, typer.Option(min=0, max=3_600, help="Seconds that running jobs get to end after SIGTERM.")]


def worker(
    targets: Annotated[
        list[str] | None,
        typer.Argument(help="Files, folders, modules or module:client. Without: the project's consumers."),
    ] = None,
    job: Annotated[
        list[str] | None,
        typer.Option(help="Run only the job with this id; may be given again.", autocompletion=complete_job),
    ] = None,
    grace: Grace = DEFAULT_GRACE_SECONDS,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Serve /healthz and /readyz on this port.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address for --port; 0.0.0.0 for all.")] = "127.0.0.1",
) -> None:
    """Run jobs: all that are found in the targets, or those named by --job.

    SIGTERM or Ctrl-C lets running jobs end; a second one ends the process at once. Under systemd use Type=notify.
    """
    from playhead.cli.connection import settings_of
    from playhead.cli.hosting import host_jobs
    from playhead.cli.logs import configure_logging, log_line
    from playhead.cli.project import find_project
    from playhead.cli.targets import find_jobs

    configure_logging()
    project = find_project()
    project.import_catalog()
    jobs = [found.job for found in find_jobs(targets or (), project, only=job or ())]
    sockets = None
    if port is not None:
        from playhead.http import listen

        sockets = listen(host, port)
    host_jobs(jobs, settings_of(project, tell=log_line), grace_seconds=grace, sockets=sockets)
