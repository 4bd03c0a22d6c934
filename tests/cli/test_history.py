"""`playhead history`, on a real broker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from playhead.dev.ports import pick_free
from playhead.history.schema import EVENT, RUN
from playhead.history.store import HistoryStore
from tests.cli.installation import ADA, Installation
from tests.cli.sample import job_file
from tests.cli.shell import environment
from tests.waiting import block_until

pytestmark = pytest.mark.kafka

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def here(kafka_bootstrap: str, tmp_path: Path, write: Callable[[str, str], Path]) -> Installation:
    write("pyproject.toml", '[tool.playhead]\ncatalog = ["playhead_schemas"]\nconsumers = ["ph_one.py"]\n')
    write("ph_one.py", job_file("one"))
    made = Installation(kafka_bootstrap, tmp_path)
    made.run("topics", "create")
    return made


@pytest.fixture
def start(here: Installation) -> Iterator[Start]:
    """Starts a command; it is killed at the end if it is still there."""
    started: list[subprocess.Popen[bytes]] = []

    def start_it(*arguments: str) -> subprocess.Popen[bytes]:
        started.append(here.start(*arguments))
        return started[-1]

    yield start_it
    for process in started:
        process.kill()
        process.communicate()


def is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:  # urllib's own are as well
        return False


def database(here: Installation) -> Path:
    return here.folder / ".playhead" / "history" / "history.db"


def rows(here: Installation, table: sa.Table) -> list[Any]:
    if not database(here).exists():
        return []
    store = HistoryStore(f"sqlite:///{database(here)}")
    try:
        with store.reading() as db:
            return list(db.execute(sa.select(table)))
    finally:
        store.close()


def test_events_and_runs_are_written_verified_and_built_again(here: Installation, start: Start) -> None:
    history, worker = start("history"), start("worker", "--port", str(port := pick_free()))
    block_until(lambda: is_ready(port), seconds=30)
    here.run("send", "user.created", ADA)
    block_until(lambda: len(rows(here, RUN)) == 1, seconds=30)
    (event,), (run,) = rows(here, EVENT), rows(here, RUN)
    assert (event.name, run.job_id, run.event_id, run.state) == ("user.created", "one", event.id, "succeeded")

    verified = here.run("history", "verify", "--json")
    assert verified.code == 0, verified.err
    assert json.loads(verified.out)["equal"]

    built = here.run("history", "rebuild", "--json")
    assert built.code == 0, built.err
    assert os.readlink(database(here)) == "history-2.db"
    here.run("send", "user.created", ADA)
    block_until(lambda: len(rows(here, RUN)) == 2, seconds=30)
    assert json.loads(here.run("history", "verify", "--json").out)["digest"] != json.loads(verified.out)["digest"]

    for process in (worker, history):
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        assert process.returncode == 0

    store = HistoryStore(f"sqlite:///{database(here)}")
    with store.transaction() as db:
        db.execute(sa.update(RUN).where(RUN.c.id == run.id).values(state="failed"))
    store.close()
    told = here.run("history", "verify")
    assert told.code == 1
    assert told.out == f"run {run.id}: changed: state is 'failed', should be 'succeeded'\n"
    assert "NOT equal" in told.err


@pytest.mark.parametrize("command", [("verify",), ("skip", "user[0]")])
def test_history_that_is_not_there_is_not_taken_for_an_empty_one(
    here: Installation, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """An empty one is equal to the log up to where it is: nowhere."""
    told = here.run("history", *command, "--database", f"sqlite:///{tmp_path}/other/history.db")
    assert told.code == 3
    assert "PH205" in told.err
    assert not (tmp_path / "other").exists()


def test_rebuild_that_is_killed_leaves_the_old_one_serving(here: Installation, start: Start) -> None:
    history = start("history")
    for _ in range(3):
        here.run("send", "user.created", ADA)
    block_until(lambda: len(rows(here, EVENT)) == 3, seconds=30)
    program = (
        "import os, signal; from playhead.history import rebuild\n"
        "rebuild.prune = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "import sys; sys.argv = ['playhead', 'history', 'rebuild']; from playhead.cli import main; main()"
    )
    killed = subprocess.run([sys.executable, "-c", program], cwd=here.folder, env=environment(**here.env), check=False)
    assert killed.returncode == -signal.SIGKILL
    assert os.readlink(database(here)) == "history-1.db"
    assert database(here).with_name("history-2.db").exists()
    here.run("send", "user.created", ADA)
    block_until(lambda: len(rows(here, EVENT)) == 4, seconds=30)
    assert here.run("history", "rebuild").code == 0
    assert len(rows(here, EVENT)) == 4
    assert not database(here).with_name("history-1.db").exists()
    assert history.poll() is None


def test_second_process_on_one_file_says_who_has_it(here: Installation, start: Start) -> None:
    history = start("history")
    block_until(lambda: len(rows(here, sa.Table("part", sa.MetaData(), sa.Column("topic")))) > 0, seconds=30)
    second = here.run("history")
    assert second.code == 4
    assert f"error PH305: process {history.pid} writes the history in {database(here)}." in second.err


def test_health_is_served_on_a_port(start: Start) -> None:
    port = pick_free()
    start("history", "--port", str(port))
    block_until(lambda: is_ready(port), seconds=30)


class TestWithoutABroker:
    def run(self, folder: Path, *arguments: str, **env: str) -> Any:
        made = Installation("127.0.0.1:9", folder)
        made.env |= env
        return made.run(*arguments)

    def test_bad_database(self, tmp_path: Path) -> None:
        done = self.run(tmp_path, "history", "--database", "mysql://me:secret@host/db")
        assert (done.code, "secret" in done.err) == (2, False)
        assert "error PH107: history can't be kept in 'mysql://me:***@host/db'." in done.err

    def test_file_that_is_no_history(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("mine")
        done = self.run(tmp_path, "history", PLAYHEAD_HISTORY_DATABASE=f"sqlite:///{tmp_path}/notes.txt")
        assert done.code == 4
        assert "error PH313" in done.err
        assert (tmp_path / "notes.txt").read_text() == "mine"

    def test_database_that_does_not_answer(self, tmp_path: Path) -> None:
        done = self.run(tmp_path, "history", "--database", "postgresql://me:secret@127.0.0.1:9/db")
        assert (done.code, "secret" in done.err) == (3, False)
        assert "error PH204: the history in postgresql+psycopg://me:***@127.0.0.1:9/db does not answer: " in done.err

    def test_folder_that_can_not_be_written(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        done = self.run(tmp_path, "history", "--database", f"sqlite:///{tmp_path}/file/history.db")
        assert done.code == 4
        assert f"error PH315: the folder {tmp_path}/file can't be written: File exists." in done.err
        assert "PLAYHEAD_HISTORY_DATABASE" in done.err

    def test_bad_partition(self, tmp_path: Path) -> None:
        done = self.run(tmp_path, "history", "skip", "user[x]")
        assert done.code == 2
        assert "Name it as in user[0]" in done.err

    @pytest.mark.parametrize(("package", "extra"), [("sqlalchemy", "history"), ("psycopg", "postgres")])
    def test_missing_extra(self, tmp_path: Path, package: str, extra: str) -> None:
        program = (
            f"import sys; sys.modules[{package!r}] = None; sys.argv = ['playhead', 'history', '--database', "
            "'postgresql://host/db']; from playhead.cli import main; main()"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 4
        assert f"pip install 'playhead[{extra}]'" in done.stderr
