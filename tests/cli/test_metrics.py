"""/metrics of the processes as they are started: a worker, a scheduler, the HTTP server."""

from __future__ import annotations

import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from playhead.dev.ports import pick_free
from tests.cli.installation import ADA, Installation
from tests.cli.sample import job_file
from tests.exposition import Exposition
from tests.waiting import block_until

pytestmark = pytest.mark.kafka
Write = Callable[[str, str], Path]


class Processes:
    """Processes of one installation, each with a port."""

    def __init__(self, here: Installation) -> None:
        self.here = here
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, *arguments: str) -> Callable[[], Exposition]:
        """Start one, wait until it is ready, and give what asks for its metrics."""
        port = pick_free()
        self.started.append(self.here.start(*arguments, "--port", str(port)))
        block_until(lambda: ready(port), seconds=60)
        return lambda: Exposition(fetched(port))

    def end(self) -> None:
        for process in self.started:
            process.kill()
            process.communicate()


def fetched(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.HTTPError):
        return False


@pytest.fixture
def here(kafka_bootstrap: str, tmp_path: Path, write: Write) -> Installation:
    write("ph_one.py", job_file("one"))
    installation = Installation(kafka_bootstrap, tmp_path)
    installation.run("topics", "create", "user", "--partitions", "2")
    return installation


@pytest.fixture
def processes(here: Installation) -> Iterator[Processes]:
    made = Processes(here)
    yield made
    made.end()


def test_worker(here: Installation, processes: Processes) -> None:
    metrics = processes.start("worker", "ph_one.py")
    group, topic = f"{here.prefix}one", f"{here.prefix}user"
    here.run("send", "user.created", ADA)
    block_until(lambda: metrics().value("playhead_runs_total", job_id="one", state="succeeded") == 1)
    now = metrics()
    assert now.value("playhead_ready", part="worker") == now.value("playhead_broker_up", part="worker") == 1
    assert (now.value("playhead_group_ready", group=group), now.value("playhead_tasks", group=group)) == (1, 2)
    assert now.value("playhead_records_read_total", group=group) == 1
    assert now.value("playhead_run_start_latency_seconds_count", job_id="one") == 1
    assert now.value("playhead_commit_duration_seconds_sum", group=group) > 0
    assert now.sum("playhead_lag_records", group=group, topic=topic) in (0, 1)
    assert now.value("playhead_transaction_age_seconds", group=group, topic=topic, partition="0") == 0


def test_scheduler(here: Installation, processes: Processes) -> None:
    metrics = processes.start("scheduler")
    assert metrics().value("playhead_timers_pending") == 0
    here.run("send", "user.created", ADA, "--delay", "1s")
    block_until(lambda: metrics().value("playhead_timer_lateness_seconds_count") == 1)
    here.run("send", "user.created", ADA, "--delay", "1h")
    block_until(lambda: metrics().value("playhead_timers_pending") == 1)
    now = metrics()
    assert now.value("playhead_ready", part="scheduler") == 1
    assert now.value("playhead_group_ready", group=f"{here.prefix}playhead.scheduler") == 1
    assert now.sum("playhead_timer_lateness_seconds_sum") > 0


def test_http(here: Installation, processes: Processes) -> None:
    metrics = processes.start("http")
    assert metrics().value("playhead_ready", part="http") == 1
    port = int(processes.started[0].args[-1])  # type: ignore[index]
    body = f'{{"event": "user.created", "payload": {ADA}}}'.encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/trigger", body, {"content-type": "application/json"})
    urllib.request.urlopen(request, timeout=20).close()
    assert metrics().value("playhead_events_sent_total", topic=f"{here.prefix}user") == 1
