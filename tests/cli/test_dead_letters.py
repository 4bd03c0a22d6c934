"""`playhead dead-letters retry`, and the API beside it, on a real broker: a run that failed succeeds at last."""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from playhead.dev.ports import pick_free
from tests.cli.installation import ADA, Installation
from tests.cli.sample import job_file
from tests.waiting import block_until

pytestmark = pytest.mark.kafka

FAILS = """
from pathlib import Path
from typing import Any

from playhead import IO, Client, NonRetriableError, event_trigger

client = Client("fails")


@client.job(id="fails", name="Fails", version="1", trigger=event_trigger("user.created"))
async def fails(payload: dict[str, Any], io: IO) -> str:
    if not Path("mended").exists():
        raise NonRetriableError("not yet")
    return "done"
"""


@pytest.fixture
def here(kafka_bootstrap: str, tmp_path: Path, write: Callable[[str, str], Path]) -> Installation:
    write(
        "pyproject.toml", '[tool.playhead]\ncatalog = ["playhead_schemas"]\nconsumers = ["ph_one.py", "ph_fails.py"]\n'
    )
    write("ph_one.py", job_file("one"))
    write("ph_fails.py", FAILS)
    made = Installation(kafka_bootstrap, tmp_path)
    made.run("topics", "create")
    return made


@pytest.fixture
def port(here: Installation) -> Iterator[int]:
    """Of the API, beside a worker and a history."""
    port, worker = pick_free(), pick_free()
    started: list[subprocess.Popen[bytes]] = [
        here.start("history"),
        here.start("worker", "--port", str(worker)),
        here.start("http", "--port", str(port)),
    ]
    try:
        for one in (worker, port):
            block_until(lambda one=one: _is_ready(one), seconds=60)  # type: ignore[misc]
        yield port
    finally:
        for process in started:
            process.send_signal(signal.SIGTERM)
        for process in started:
            process.communicate(timeout=30)
    assert [process.returncode for process in started] == [0, 0, 0]


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _items(here: Installation, *arguments: str) -> list[dict[str, Any]]:
    done = here.run(*arguments, "--json")
    return json.loads(done.out)["items"] if done.code == 0 else []


def _got(port: int, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return json.load(answer)


def test_run_that_failed_succeeds_once_its_letter_is_retried(here: Installation, port: int) -> None:
    here.run("send", "user.created", ADA)
    block_until(lambda: len(_items(here, "dead-letters", "list")) == 1, seconds=60)
    block_until(lambda: len(_items(here, "runs", "list")) == 2, seconds=60)
    (letter,) = _items(here, "dead-letters", "list")
    (here.folder / "mended").touch()
    retried = here.run("dead-letters", "retry", letter["id"])
    assert retried.code == 0, retried.err

    def replayed() -> list[dict[str, Any]]:
        return _items(here, "runs", "list", "--job", "fails", "--state", "succeeded")

    block_until(lambda: len(replayed()) == 1, seconds=60)
    (run,) = replayed()
    assert _got(port, f"/api/runs/{run['id']}")["replayOf"] == letter["runId"]
    assert len(_items(here, "runs", "list", "--job", "one")) == 1
    assert len(_items(here, "events", "list")) == 1
    block_until(lambda: _items(here, "dead-letters", "list") == [], seconds=60)
    assert _got(port, f"/api/dead-letters/{letter['id']}")["replayRunId"] == run["id"]
    assert "PH113" in here.run("dead-letters", "discard", letter["id"]).err
    both = here.run("dead-letters", "discard", letter["id"], "nobody")
    assert both.code == 1
    lags = {item["job"]: item["lag"] for item in _got(port, "/api/lag")["items"]}
    assert lags == {"one": 0, "fails": 0}
