"""Where a history is: its generations, of which one is current, in SQLite or in PostgreSQL.

A rebuild makes the next generation beside the current one, and then that one current, in one step. Whoever asks
afterwards gets the new one; whoever has the old one open keeps it until it looks again.

    sqlite:////data/history.db          /data/history-3.db       a generation
                                        /data/history.db         a link to the current one
    postgresql://host/database          playhead_history_3       a generation: a schema
                                        playhead_history.current a row with the current one's number
"""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import Connection, Engine, event, exc
from sqlalchemy.pool import QueuePool

from playhead.errors import DatabaseUnavailable, FolderUnusable, HistoryMisfit, InvalidSetting, MissingExtra
from playhead.history.schema import METADATA, PART

SQLITE_WRITER_CACHE_KIB = 128 * 1024
SQLITE_READER_CACHE_KIB = 16 * 1024
SQLITE_BUSY_SECONDS = 30.0
_WAL_PAGES = 10_000
SCHEMA = "playhead_history"
"""Of PostgreSQL's. A generation's has its number behind it."""
READS = "playhead_reads"
"""The execution option of a connection for writing that only reads now, and waits for no writer."""
_CREATING_LOCK, _REBUILDING_LOCK, _PRUNING_LOCK = 0x706C6179_0001, 0x706C6179_0002, 0x706C6179_0003
SETTLING_LOCK = 0x706C6179_0004
"""PostgreSQL's advisory locks are numbers that all who use the database share: "play"."""


class Place(Protocol):
    """Where the generations of one history are. Its methods block."""

    name: str
    """For people; without a password."""

    def current(self) -> int:
        """The number of the current generation; 0 where there is none yet."""
        ...

    def generations(self) -> list[int]:
        """Those that there is anything of."""
        ...

    def make(self, number: int) -> None:
        """Make the tables of a generation, as far as they are missing."""
        ...

    def switch(self, number: int) -> None:
        """Make this one the current generation, whichever was."""
        ...

    def begin(self, number: int) -> None:
        """Make this one the current generation where there is none yet."""
        ...

    def drop(self, number: int) -> None:
        """Delete a generation that is not current. Who is reading it may go on until its connection ends."""
        ...

    def engine(self, number: int, *, writing: bool = False) -> Engine:
        """Connections to a generation; those that are not for writing see one state from their first query on."""
        ...

    def hold(self, db: Connection) -> None:
        """Let nobody else write to this generation until the transaction ends."""
        ...

    def only_one_prunes(self, db: Connection) -> bool:
        """Whether this transaction may prune; several processes may share the database."""
        ...

    def rebuilding(self) -> AbstractContextManager[bool]:
        """Whether nobody else rebuilds; nobody else does until the block ends."""
        ...

    def is_broken(self, number: int, error: BaseException | None) -> bool:
        """Whether the driver's error says that a generation is no history, or none any more: no waiting helps."""
        ...

    def close(self) -> None:
        """Close its own connections."""
        ...


def place_of(url: str) -> Place:
    """The place that a URL names.

    Raises:
        InvalidSetting: it is no URL, or of a database that history does not know.
        MissingExtra: PostgreSQL's driver is not installed.
    """
    try:
        parsed = sa.make_url(url.replace("postgres://", "postgresql://", 1) if url.startswith("postgres://") else url)
        backend = parsed.get_backend_name()
    except exc.SQLAlchemyError as error:
        raise InvalidSetting(f"the history's database {url!r} is no URL: {error}.", remedy=_EXAMPLES) from error
    if backend == "sqlite" and parsed.database:
        return SqlitePlace(Path(parsed.database).absolute())
    if backend == "postgresql":
        try:
            import psycopg  # noqa: F401
        except ImportError as error:
            raise MissingExtra("history in PostgreSQL", "psycopg", "postgres") from error
        return PostgresPlace(parsed.set(drivername="postgresql+psycopg"))
    shown = parsed.render_as_string(hide_password=True)
    raise InvalidSetting(f"history can't be kept in {shown!r}.", remedy=_EXAMPLES)


_ELSEWHERE = "Make it writable for this process's user, or keep the history elsewhere: PLAYHEAD_HISTORY_DATABASE."
_EXAMPLES = "Use sqlite:////var/lib/playhead/history.db or postgresql://user@host/database."


@contextmanager
def answering(name: str) -> Iterator[None]:
    """For commands, which do not wait.

    Raises:
        DatabaseUnavailable: it does not answer.
        HistoryMisfit: it is broken.
    """
    try:
        yield
    except exc.DatabaseError as error:
        if isinstance(error, exc.OperationalError):
            raise DatabaseUnavailable(f"the history in {name} does not answer: {why(error)}.") from error
        if _is_corrupt(error.orig):
            raise broken(name, error) from error
        raise
    except exc.InterfaceError as error:
        raise DatabaseUnavailable(f"the history in {name} does not answer: {why(error)}.") from error


def broken(name: str, error: exc.DBAPIError) -> HistoryMisfit:
    """What there is can't be read."""
    return HistoryMisfit(
        f"the history in {name} is broken: {why(error)}.",
        remedy="Build it again from the log: playhead history rebuild",
    )


def why(error: exc.DBAPIError) -> str:
    """What the database itself says, without SQLAlchemy's words around it."""
    said = str(error.orig).strip() or type(error.orig).__qualname__  # some errors say nothing
    return said.splitlines()[0].rstrip(".")


def _is_corrupt(error: BaseException | None) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest of it says more of the same
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class SqlitePlace:
    """Files in one folder."""

    def __init__(self, link: Path) -> None:
        self.link = link
        self.name = str(link)

    def make_folder(self) -> None:
        """
        Raises:
            FolderUnusable: it can't be written.
        """
        folder = self.link.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise FolderUnusable(folder, error, remedy=_ELSEWHERE) from error
        if not os.access(folder, os.W_OK):
            number = errno.EROFS if os.statvfs(folder).f_flag & os.ST_RDONLY else errno.EACCES
            raise FolderUnusable(folder, OSError(number, os.strerror(number)), remedy=_ELSEWHERE)

    def path(self, number: int) -> Path:
        return self.link.with_name(f"{self.link.stem}-{number}{self.link.suffix}")

    def current(self) -> int:
        try:
            target = os.readlink(self.link)
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise HistoryMisfit(
                f"{self.link} is not a history: it should be a link that `playhead history` made.",
                remedy="Name another file, or move that one away.",
            ) from error
        return self._number(target)

    def _number(self, name: str) -> int:
        stem, _, number = name.removesuffix(self.link.suffix).rpartition("-")
        return int(number) if stem == self.link.stem and number.isdecimal() else 0

    def generations(self) -> list[int]:
        return sorted({number for file in self.link.parent.glob("*") if (number := self._number(_base(file.name)))})

    def make(self, number: int) -> None:
        self.make_folder()
        engine = self._engine(number, "rwc", SQLITE_WRITER_CACHE_KIB, "BEGIN IMMEDIATE")
        try:
            with engine.begin() as db:
                METADATA.create_all(db)
        finally:
            engine.dispose()

    def switch(self, number: int) -> None:
        for path in (self.path(number), self.link.parent):
            _sync(path)  # the old one is deleted soon: what takes its place has to outlive a power cut
        draft = self.link.with_name(f"{self.link.name}.next")
        draft.unlink(missing_ok=True)
        draft.symlink_to(self.path(number).name)
        draft.replace(self.link)

    def begin(self, number: int) -> None:
        with suppress(FileExistsError):
            self.link.symlink_to(self.path(number).name)

    def drop(self, number: int) -> None:
        for suffix in ("", "-wal", "-shm", "-journal"):
            path = self.path(number)
            path.with_name(path.name + suffix).unlink(missing_ok=True)

    def engine(self, number: int, *, writing: bool = False) -> Engine:
        cache_kib = SQLITE_WRITER_CACHE_KIB if writing else SQLITE_READER_CACHE_KIB
        return self._engine(number, "rw", cache_kib, "BEGIN IMMEDIATE" if writing else "BEGIN")

    def _engine(self, number: int, mode: str, cache_kib: int, begin: str) -> Engine:
        path = self.path(number)
        # Without `mode` a path that was deleted meanwhile would come back as an empty database.
        uri = f"file:{quote(str(path))}?mode={mode}"

        def connect() -> sqlite3.Connection:
            # A connection goes from thread to thread, through the pool: one at a time has it.
            made = sqlite3.connect(
                uri, uri=True, timeout=SQLITE_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            made.executescript(
                f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-{cache_kib};"
                f"PRAGMA wal_autocheckpoint={_WAL_PAGES}"
            )
            return made

        engine = sa.create_engine("sqlite://", creator=connect, poolclass=QueuePool)

        @event.listens_for(engine, "connect")
        def opened(_connection: Any, record: Any) -> None:
            record.info[_FILE] = _identity(path)

        @event.listens_for(engine, "checkout")
        def taken(_connection: Any, record: Any, _proxy: Any) -> None:
            # What is written into a file that was deleted ends with this process, and no other one sees it.
            if record.info[_FILE] != _identity(path):
                raise exc.DisconnectionError(f"{path} was deleted or replaced")

        @event.listens_for(engine, "begin")
        def begun(db: Connection) -> None:
            db.exec_driver_sql("BEGIN" if db.get_execution_options().get(READS) else begin)

        return engine

    def hold(self, db: Connection) -> None:
        """Its transaction began as the only writer's."""

    def only_one_prunes(self, db: Connection) -> bool:
        return True

    def is_broken(self, number: int, error: BaseException | None) -> bool:
        return _is_corrupt(error) or not self.path(number).is_file() or "no such table" in str(error)

    def close(self) -> None:
        """It has none."""

    @contextmanager
    def rebuilding(self) -> Iterator[bool]:
        self.make_folder()
        with self.link.with_name(f"{self.link.name}.rebuild").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True


_FILE = "file"
"""In what is known of a connection: which file it has open."""


def _identity(path: Path) -> tuple[int, int] | None:
    """Of the file that has this name now."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _base(name: str) -> str:
    for suffix in ("-wal", "-shm", "-journal"):
        name = name.removesuffix(suffix)
    return name


def _postgres(url: sa.URL, **options: Any) -> Engine:
    """An engine to which a server that takes no writes at the moment is away, as one that does not answer is.

    It is a standby now, or somebody has set it so; the driver calls it an internal error, which no waiting would mend.
    """
    engine = sa.create_engine(url, pool_pre_ping=True, **options)

    @event.listens_for(engine, "handle_error")
    def failed(context: sa.engine.ExceptionContext) -> None:
        if _takes_no_writes(context.original_exception):
            raise exc.OperationalError(context.statement, None, context.original_exception)

    return engine


def _takes_no_writes(error: BaseException) -> bool:
    from psycopg.errors import ReadOnlySqlTransaction

    return isinstance(error, ReadOnlySqlTransaction)


@contextmanager
def told_by_sqlalchemy(db: Connection) -> Iterator[None]:
    """What PostgreSQL's driver, used by itself, says of an error, as SQLAlchemy does: what is away has one name."""
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        if _takes_no_writes(error):
            raise exc.OperationalError(None, None, error) from error
        raise exc.DBAPIError.instance(None, None, error, psycopg.Error, dialect=db.dialect) from error


class PostgresPlace:
    """Schemas in one database."""

    def __init__(self, url: sa.URL) -> None:
        self.url = url
        self.name = url.render_as_string(hide_password=True)
        self._control = _postgres(url, pool_size=1)

    def current(self) -> int:
        with self._control.connect() as db:
            try:
                return int(db.scalar(sa.text(f"SELECT generation FROM {SCHEMA}.current")) or 0)
            except exc.ProgrammingError:
                return 0  # the first `switch` makes the table

    def generations(self) -> list[int]:
        query = sa.text("SELECT nspname FROM pg_namespace WHERE nspname ~ :form")
        with self._control.connect() as db:
            names = db.scalars(query, {"form": rf"^{SCHEMA}_\d+$"})
            return sorted(int(name.rpartition("_")[2]) for name in names)

    def make(self, number: int) -> None:
        with self._control.begin() as db:
            db.execute(sa.select(sa.func.pg_advisory_xact_lock(_CREATING_LOCK)))
            db.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}_{number}")
            db.exec_driver_sql(f"SET LOCAL search_path TO {SCHEMA}_{number}")
            METADATA.create_all(db)

    def switch(self, number: int) -> None:
        self._point_to(number, f"DELETE FROM {SCHEMA}.current")

    def begin(self, number: int) -> None:
        self._point_to(number)

    def _point_to(self, number: int, *before: str) -> None:
        with self._control.begin() as db:
            db.execute(sa.select(sa.func.pg_advisory_xact_lock(_CREATING_LOCK)))
            db.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
            db.exec_driver_sql(f"CREATE TABLE IF NOT EXISTS {SCHEMA}.current (generation integer NOT NULL)")
            for sql in before:
                db.exec_driver_sql(sql)
            none_yet = f"WHERE NOT EXISTS (SELECT FROM {SCHEMA}.current)"
            db.exec_driver_sql(f"INSERT INTO {SCHEMA}.current SELECT {number} {none_yet}")

    def drop(self, number: int) -> None:
        with self._control.begin() as db:
            # Every transaction has a lock on `part`, from its begin on: this waits for those that read.
            with suppress(exc.ProgrammingError), db.begin_nested():
                db.exec_driver_sql(f"LOCK TABLE {SCHEMA}_{number}.part IN ACCESS EXCLUSIVE MODE")
            db.exec_driver_sql(f"DROP SCHEMA IF EXISTS {SCHEMA}_{number} CASCADE")

    def engine(self, number: int, *, writing: bool = False) -> Engine:
        engine = _postgres(
            self.url,
            connect_args={"options": f"-csearch_path={SCHEMA}_{number}"},
            isolation_level="READ COMMITTED" if writing else "REPEATABLE READ",
        )

        @event.listens_for(engine, "begin")
        def begun(db: Connection) -> None:
            db.exec_driver_sql("LOCK TABLE part IN ACCESS SHARE MODE")

        return engine

    def hold(self, db: Connection) -> None:
        db.exec_driver_sql(f"LOCK TABLE {PART.name} IN EXCLUSIVE MODE")

    def only_one_prunes(self, db: Connection) -> bool:
        return bool(db.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(_PRUNING_LOCK))))

    def is_broken(self, number: int, error: BaseException | None) -> bool:
        from psycopg.errors import UndefinedTable

        return isinstance(error, UndefinedTable)

    def close(self) -> None:
        self._control.dispose()

    @contextmanager
    def rebuilding(self) -> Iterator[bool]:
        engine = _postgres(self.url)
        try:
            with engine.connect() as db:  # the lock ends with the transaction
                yield bool(db.scalar(sa.select(sa.func.pg_try_advisory_xact_lock(_REBUILDING_LOCK))))
        finally:
            engine.dispose()
