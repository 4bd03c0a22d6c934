"""What the history's tests share: a database of each kind, empty, and a place to run in, for one test."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy as sa

from playhead.dev.ports import pick_free
from playhead.history.store import HistoryStore
from tests.history.place import Place
from tests.waiting import block_until

POSTGRES_HOME = Path("/usr/lib/postgresql")
_PEOPLE = ("postgres", "nobody")
"""Who may run it where the tests are root: PostgreSQL refuses root."""
_WHILE_STDIN_IS_OPEN = '"$@" & read _; kill -INT $!; wait'
"""So that no server outlives the tests, however they end."""


def postgres_programs() -> Path | None:
    """The folder of the newest PostgreSQL here, from Debian's packages or on the path."""
    versions = [path for path in POSTGRES_HOME.glob("*/bin") if (path / "initdb").exists()]
    if versions:
        return max(versions, key=lambda path: float(path.parent.name))
    found = shutil.which("initdb")
    return Path(found).resolve().parent if found else None


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL for the whole session, without a database: `{postgres}/name`."""
    programs = postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    user = next((name for name in _PEOPLE if _is_user(name)), "") if os.getuid() == 0 else ""
    how = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []} if user else {}
    folder, port = Path(tempfile.mkdtemp(prefix="playhead-postgres-")), pick_free()
    if user:
        shutil.chown(folder, user)
    data = folder / "data"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder, **how}
    init = [programs / "initdb", "-D", data, "-U", "playhead", "--auth=trust", "--no-sync", "-E", "UTF8"]
    subprocess.run([*init, "--locale=C.UTF-8"], check=True, **quiet)  # type: ignore[call-overload]
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    command = ["sh", "-c", _WHILE_STDIN_IS_OPEN, "sh", programs / "postgres", "-D", data, *options.split()]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, **quiet)  # type: ignore[call-overload]
    try:
        block_until(lambda: server.poll() is None and _answers(port), seconds=60)
        yield f"postgresql+psycopg://playhead@127.0.0.1:{port}"
    finally:
        server.communicate()
        shutil.rmtree(folder)


def _answers(port: int) -> bool:
    try:
        psycopg.connect(f"host=127.0.0.1 port={port} user=playhead dbname=postgres").close()
    except psycopg.OperationalError:
        return False
    return True


def _is_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


@pytest.fixture
def postgres_url(postgres: str) -> Iterator[str]:
    """A database of the test's own."""
    name = f"t{uuid4().hex[:12]}"
    engine = sa.create_engine(f"{postgres}/postgres", isolation_level="AUTOCOMMIT")
    with engine.connect() as db:
        db.exec_driver_sql(f"CREATE DATABASE {name}")
    yield f"{postgres}/{name}"
    with engine.connect() as db:
        db.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of the test's own, of each kind that history can be in."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/history.db"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def store(url: str) -> Iterator[HistoryStore]:
    made = HistoryStore(url)
    yield made
    made.close()


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    made = Place()
    await made.open()
    yield made
    await made.close()
