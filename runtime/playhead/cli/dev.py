"""`playhead dev`: everything on this machine, as one command that ends as one."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from playhead.cli.http import HTTP_PORT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playhead.cli.project import Project
    from playhead.dev.lock import FileLock
    from playhead.history.opening import Reading

DEFAULT_GRACE_SECONDS = 10.0
_PARENT_CHECK_SECONDS = 0.5


def dev(
    targets: Annotated[
        list[str] | None, typer.Argument(help="Jobs to run, as for playhead worker; else the project's consumers.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port of the HTTP API; 0 picks a free one.")] = HTTP_PORT,
    host: Annotated[str, typer.Option(help="Address of the HTTP API; 0.0.0.0 for all.")] = "127.0.0.1",
    kafka_port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port of the broker; 0 picks a free one. Default 9092.")
    ] = None,
    partitions: Annotated[int, typer.Option(min=1, max=4_096, help="Partitions of topics that are created.")] = 4,
    worker: Annotated[bool, typer.Option(help="Run the project's jobs, or only broker, topics and HTTP.")] = True,
    grace: Annotated[float, typer.Option(min=0, max=3_600, help="Seconds that running jobs get at Ctrl-C.")] = (
        DEFAULT_GRACE_SECONDS
    ),
) -> None:
    """Run all of it here: broker, topics, jobs, scheduler, history, dashboard, HTTP. Ctrl-C stops it, a second at once.

    The broker is the one that PLAYHEAD_BOOTSTRAP_SERVERS names, else an Apache Kafka that is fetched at the first
    start. Its data is in .playhead/ (or PLAYHEAD_DATA_DIR) and stays.
    """
    started = time.monotonic()
    _let_signals_end_the_start()
    _end_with_parent()

    from playhead.cli.logs import configure_logging
    from playhead.cli.project import find_project
    from playhead.cli.targets import find_jobs
    from playhead.dev.ports import is_free

    configure_logging()
    project = find_project()
    project.import_catalog()
    # Mistakes in the project show before anything is started.
    jobs = [found.job for found in find_jobs(targets or (), project)] if worker else []
    lock = _take_lock(project.data_dir)
    warming = threading.Thread(target=_import_what_comes_later, daemon=True)
    warming.start()
    sockets = []
    if port == 0 or not is_free(port):
        # Only `listen` can say who is in the way. Where nobody is, it waits until its imports cost no time.
        sockets = _listen(host, port)

    from playhead.cli.progress import StartProgress
    from playhead.dev.find import find_broker

    with StartProgress() as progress:
        broker = find_broker(data_dir=project.data_dir, port=kafka_port, progress=progress)
    try:
        from playhead.cli.connection import run_fast
        from playhead.cli.together import Together

        warming.join()
        sockets = sockets or _listen(host, port)
        with _for_questions(project, broker.bootstrap_servers) as (folder, history):
            together = Together(
                broker=broker,
                timers_folder=folder,
                history=history,
                jobs=jobs,
                sockets=sockets,
                partitions=partitions,
                commands=_commands(targets or (), grace, port, worker=worker),
                grace_seconds=grace,
                started=started,
            )
            lock.write_facts(pid=os.getpid(), url=together.url, bootstrap_servers=broker.bootstrap_servers)
            code = run_fast(together.run())
    finally:
        broker.stop()
        lock.close()
    sys.exit(code)


def _let_signals_end_the_start() -> None:
    signal.signal(signal.SIGTERM, _end_during_start)
    if not outlives_its_parent():
        signal.signal(signal.SIGHUP, _end_during_start)


def outlives_its_parent() -> bool:
    """Whether nohup started this."""
    return signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def _end_with_parent() -> None:
    """Stop, as at SIGHUP, when whoever started this has died."""
    parent = os.getppid()
    if parent <= 1 or outlives_its_parent():
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_CHECK_SECONDS)
        print("Whoever started this is gone. (With nohup it would go on.)", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGHUP)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _take_lock(data_dir: Path) -> FileLock:
    """One `playhead dev` per data folder.

    Raises:
        AlreadyRunning: says where the other one is.
    """
    from playhead.cli.connection import DEV_LOCK
    from playhead.dev.lock import FileLock, LockedElsewhere
    from playhead.errors import AlreadyRunning

    try:
        lock = FileLock.take(data_dir / DEV_LOCK)
    except LockedElsewhere as held:
        where, pid = held.facts.get("url", "it is still starting"), held.facts.get("pid", "unknown")
        raise AlreadyRunning(
            f"`playhead dev` is running already: {where} (pid {pid}, data in {data_dir}).",
            remedy="Use that one, or stop it; another data folder (PLAYHEAD_DATA_DIR) makes another installation.",
        ) from held
    lock.write_facts(pid=os.getpid())
    return lock


def _listen(host: str, port: int) -> list[Any]:
    from playhead.http import listen

    return listen(host, port)


@contextmanager
def _for_questions(project: Project, bootstrap_servers: str) -> Iterator[tuple[Path, Reading]]:
    """What the API answers from: a folder for its cache of timers, and the history."""
    from playhead.cli.history import database_url
    from playhead.cli.stores import lists_folder, own_folder
    from playhead.config import Settings
    from playhead.history.opening import Reading

    url = database_url(project, Settings.from_env(bootstrap_servers=bootstrap_servers))
    with own_folder(lists_folder(project)) as folder, Reading(url) as history:
        yield folder, history


def _import_what_comes_later() -> None:
    """These take about a second; the broker takes longer to start, in a process of its own."""
    import playhead.broker.kafka
    import playhead.cli.together
    import playhead.http  # noqa: F401


def _commands(
    targets: list[str] | tuple[str, ...], grace_seconds: float, port: int, *, worker: bool
) -> dict[str, list[str]]:
    """Of the processes beside. Their health and metrics are on the ports after `port`, where these are free."""
    from playhead.dev.ports import is_free

    def served(distance: int) -> list[str]:
        wanted = port + distance if 1_024 <= port <= 65_535 - distance else 0
        return ["--port", str(wanted if wanted and is_free(wanted) else 0)]

    # -P: the current folder is no place to import from, or `consumers/x.py` would be there under two names.
    playhead = [sys.executable, "-P", "-m", "playhead.cli"]
    commands = {"scheduler": [*playhead, "scheduler", *served(1)], "history": [*playhead, "history", *served(3)]}
    if worker:
        commands["worker"] = [*playhead, "worker", "--grace", str(grace_seconds), *served(2), *targets]
    return commands


def _end_during_start(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)
