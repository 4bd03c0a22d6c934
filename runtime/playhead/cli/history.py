"""`playhead history`: what happened, kept in a database that can be built again from the log."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from playhead.cli.output import AsJson, print_json, print_table, say
from playhead.errors import AlreadyRunning, InvalidInput, MissingExtra

if TYPE_CHECKING:
    from playhead.cli.project import Project
    from playhead.config import Settings
    from playhead.history.store import HistoryStore

FOLDER, FILE = "history", "history.db"
"""In the data folder."""

app = typer.Typer(
    name="history",
    help="Keep what happened in a database: run it, verify it, build it again.",
    invoke_without_command=True,
)

Database = Annotated[
    str | None,
    typer.Option(
        "--database",
        help="sqlite:////path/history.db or postgresql://user@host/database; "
        "else PLAYHEAD_HISTORY_DATABASE, else .playhead/history/history.db of the project.",
    ),
]
Port = Annotated[int | None, typer.Option(min=0, max=65_535, help="Serve /healthz, /readyz and /metrics on this port.")]
_PARTITION = re.compile(r"(?P<topic>[^\[\]]+)(?:\[(?P<number>\d+)\])?")


@app.callback()
def history(
    context: typer.Context,
    database: Database = None,
    port: Port = None,
    host: Annotated[str, typer.Option(help="Address for --port; 0.0.0.0 for all.")] = "127.0.0.1",
) -> None:
    """Write what is in the log into a database, until told to stop.

    SQLite is one process's; in PostgreSQL several share the work. SIGTERM or Ctrl-C ends it; the next goes on there.
    """
    if context.invoked_subcommand is not None:
        context.obj = database
        return
    need_extra()
    from playhead.cli.hosting import host_history
    from playhead.cli.logs import configure_logging

    configure_logging()
    project, settings = _here()
    sockets = None
    if port is not None:
        from playhead.http import listen

        sockets = listen(host, port)
    url = database_url(project, settings, database)
    with sole_owner(url), _opened(url, make=True) as store:
        host_history(settings, store, sockets=sockets)


def need_extra() -> None:
    """
    Raises:
        MissingExtra: what history is written with is not installed.
    """
    try:
        import sqlalchemy  # noqa: F401
    except ImportError as error:
        raise MissingExtra("history", "sqlalchemy", "history") from error


def _here() -> tuple[Project, Settings]:
    from playhead.cli.connection import settings_of
    from playhead.cli.project import find_project

    project = find_project()
    return project, settings_of(project)


def database_url(project: Project, settings: Settings, given: str | None = None) -> str:
    """Where the history is: as given, as set, or in the project's data folder."""
    return given or settings.history_database or f"sqlite:///{project.data_dir / FOLDER / FILE}"


@contextmanager
def _opened(url: str, *, make: bool = False) -> Iterator[HistoryStore]:
    """The history that is there. Unless told so none is made: an empty one would be equal to the log.

    Raises:
        NoHistory: nobody has written one yet.
    """
    from playhead.errors import NoHistory
    from playhead.history.databases import answering, place_of
    from playhead.history.store import HistoryStore

    place = place_of(url)
    with answering(place.name):
        try:
            if not make and not place.current():
                raise NoHistory(place.name, "is not there yet")
            store = HistoryStore(place)
            try:
                yield store
            finally:
                store.close()
        finally:
            place.close()


@contextmanager
def sole_owner(url: str) -> Iterator[None]:
    """Own the file where the history is in one; a database server is for many.

    Raises:
        AlreadyRunning: another process has it.
        FolderUnusable: it can't be written there.
    """
    from playhead.dev.lock import FileLock, LockedElsewhere
    from playhead.history.databases import SqlitePlace, place_of

    place = place_of(url)
    if not isinstance(place, SqlitePlace):
        place.close()
        yield
        return
    place.make_folder()
    try:
        lock = FileLock.take(place.link.with_name(f"{place.link.name}.lock"))
    except LockedElsewhere as held:
        raise AlreadyRunning(
            f"process {held.facts.get('pid', 'unknown')} writes the history in {place.name}.",
            remedy="Use that one, or stop it; several processes share a history in PostgreSQL.",
        ) from held
    try:
        lock.write_facts(pid=os.getpid())
        yield
    finally:
        lock.close()


class _Shown:
    """How far something is: a bar on a terminal, a line now and then elsewhere."""

    LINE_SECONDS = 2.0

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from playhead.cli.output import words

        self._last, self._doing, self._task = time.monotonic(), "", None
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=words(),
            transient=True,
            disable=not words().is_terminal,
        )
        self._ids: dict[str, Any] = {}
        self._on_terminal = words().is_terminal

    def __enter__(self) -> _Shown:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def __call__(self, doing: str, done: int, total: int) -> None:
        if self._on_terminal:
            if doing not in self._ids:
                self._ids[doing] = self._bars.add_task(doing, total=total)
            self._bars.update(self._ids[doing], completed=done, total=total)
        elif doing != self._doing or time.monotonic() - self._last >= self.LINE_SECONDS:
            self._last, self._doing = time.monotonic(), doing
            say(f"{doing}: {done:,} of {total:,}")


@app.command()
def rebuild(
    context: typer.Context,
    database: Database = None,
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Also where the log no longer has what the history was read from.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Build the history again from the log, beside the one that serves, which it then replaces in one step."""
    need_extra()
    from playhead.cli.connection import connected, run_fast
    from playhead.cli.hosting import collect_garbage_seldom
    from playhead.history.databases import answering, place_of
    from playhead.history.rebuild import rebuild as build

    project, settings = _here()
    place = place_of(database_url(project, settings, database or context.obj))

    async def read() -> int:
        async with connected(settings) as broker:
            with _Shown() as shown:
                return await build(broker, place, settings.topic_prefix, shown, accept_loss=accept_loss)

    collect_garbage_seldom()
    started = time.monotonic()
    try:
        with answering(place.name):
            offsets = run_fast(read())
    finally:
        place.close()
    took = round(time.monotonic() - started, 1)
    if json:
        print_json({"offsets": offsets, "seconds": took})
    else:
        say(f"The history was built again from {offsets:,} offsets in {took:,} s.")


@app.command()
def verify(context: typer.Context, database: Database = None, json: AsJson = False) -> None:
    """Read the log again up to where the history is, compare the two, and name what differs (exit code 1)."""
    need_extra()
    from playhead.cli.connection import connected, run_fast
    from playhead.cli.hosting import collect_garbage_seldom
    from playhead.history.verify import Verdict
    from playhead.history.verify import verify as compare

    project, settings = _here()

    async def read() -> Verdict:
        with _opened(database_url(project, settings, database or context.obj)) as store:
            async with connected(settings) as broker:
                with _Shown() as shown:
                    return await compare(broker, store, settings.topic_prefix, shown)

    collect_garbage_seldom()
    verdict = run_fast(read())
    if json:
        print_json(
            {
                "equal": verdict.equal,
                "digest": verdict.digest,
                "rows": verdict.rows,
                "excludedOffsets": verdict.excluded,
                "offsets": {f"{p.topic}[{p.partition}]": offset for p, offset in sorted(verdict.offsets.items())},
                "differences": [str(one) for one in verdict.differences],
            }
        )
    else:
        for one in verdict.differences:
            print(one)
        word = "equal to the log" if verdict.equal else "NOT equal to the log"
        left_out = f", less {verdict.excluded:,} offsets that retention took" if verdict.excluded else ""
        say(f"The history is {word}: {verdict.rows:,} rows, digest {verdict.digest}{left_out}.")
    if not verdict.equal:
        raise typer.Exit(1)


@app.command()
def skip(
    context: typer.Context,
    where: Annotated[str, typer.Argument(metavar="TOPIC[PARTITION]", help="A partition, or all of a topic.")],
    database: Database = None,
    json: AsJson = False,
) -> None:
    """Go on behind what retention took before it was read; it is counted as lost."""
    need_extra()
    from playhead.cli.connection import connected, run_fast
    from playhead.history.skipping import skip as go_on

    found = _PARTITION.fullmatch(where)
    if found is None:
        raise InvalidInput(f"{where!r} is no partition.", remedy="Name it as in user[0], or all of a topic as in user.")
    number = None if found["number"] is None else int(found["number"])
    project, settings = _here()

    async def do() -> dict[str, int]:
        with _opened(database_url(project, settings, database or context.obj)) as store:
            async with connected(settings) as broker:
                return await go_on(broker, store, found["topic"], number)

    lost = run_fast(do())
    if json:
        print_json({"lost": lost})
    else:
        print_table(["partition", "offsets lost"], [[name, f"{count:,}"] for name, count in lost.items()])
