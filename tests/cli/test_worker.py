"""`playhead worker` as a process on a real broker: readiness, signals, its end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from playhead.dev.ports import pick_free
from playhead.dev.supervisor import PARENT_FD
from tests.cli.installation import ADA, Installation
from tests.cli.sample import job_file
from tests.cli.shell import start_playhead
from tests.waiting import block_until

pytestmark = pytest.mark.kafka
Write = Callable[[str, str], Path]

SLOW_JOB = job_file("slow").replace(
    'return {"done": True}',
    'import asyncio, pathlib\n    pathlib.Path("started").touch()\n    await asyncio.sleep(payload["seconds"])',
)


class Listener:
    """What a worker tells $NOTIFY_SOCKET."""

    def __init__(self, address: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(address))
        self.socket.settimeout(30)
        self.told: list[str] = []

    def wait_for(self, line: str) -> None:
        while line not in self.told:
            self.told += self.socket.recv(4096).decode().splitlines()


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    listening = Listener(tmp_path / "notify")
    yield listening
    listening.socket.close()


@pytest.fixture
def here(kafka_bootstrap: str, tmp_path: Path, write: Write, listener: Listener) -> Installation:
    write("ph_one.py", job_file("one"))
    write("ph_slow.py", SLOW_JOB)
    installation = Installation(kafka_bootstrap, tmp_path)
    installation.env["NOTIFY_SOCKET"] = str(tmp_path / "notify")
    installation.run("topics", "create", "user")
    return installation


@pytest.fixture
def start(here: Installation) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a worker; it is killed at the end if it is still there."""
    started: list[subprocess.Popen[bytes]] = []

    def start_worker(*arguments: str, **how: object) -> subprocess.Popen[bytes]:
        env = {**here.env, **how.pop("env", {})}  # type: ignore[dict-item]
        process = start_playhead("worker", *arguments, cwd=here.folder, env=env, stderr=subprocess.PIPE, **how)
        started.append(process)
        return process

    yield start_worker
    for process in started:
        process.kill()
        process.communicate()


Start = Callable[..., subprocess.Popen[bytes]]


def test_it_is_ready_works_and_ends_in_good_order(here: Installation, listener: Listener, start: Start) -> None:
    worker = start("ph_one.py")
    listener.wait_for("READY=1")
    assert "X_READY=0" in listener.told
    here.run("send", "user.created", ADA)
    run = json.loads(here.run("tail", "run.*", "--from", "earliest", "--limit", "1", "--json").out)
    assert (run["name"], run["payload"]["jobId"]) == ("run.succeeded", "one")

    worker.send_signal(signal.SIGTERM)
    listener.wait_for("STOPPING=1")
    _, log = worker.communicate(timeout=30)
    assert worker.returncode == 0
    events = [json.loads(line)["event"] for line in log.splitlines()]
    assert "ready" in events
    assert "stopping" in events


def test_ctrl_c_is_130(listener: Listener, start: Start) -> None:
    worker = start("ph_one.py")
    listener.wait_for("READY=1")
    worker.send_signal(signal.SIGINT)
    assert worker.wait(30) == 130


def test_running_job_gets_its_grace(here: Installation, listener: Listener, start: Start) -> None:
    worker = start("ph_slow.py")
    listener.wait_for("READY=1")
    here.run("send", "user.created", '{"email": "a@b.c", "userId": "7", "seconds": 1.5}')
    block_until((here.folder / "started").exists)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    shown = here.run("tail", "run.*", "--from", "earliest", "--no-follow", "--json").out
    assert [json.loads(line)["name"] for line in shown.splitlines()] == ["run.succeeded"]


HANGS = {
    "thread": """
    import pathlib, time
    pathlib.Path("started").touch()
    time.sleep(90)""",
    "coroutine": """
    import asyncio, pathlib
    pathlib.Path("started").touch()
    while True:
        try:
            await asyncio.sleep(90)
        except asyncio.CancelledError:
            pass""",
}


@pytest.mark.parametrize("how", ["thread", "coroutine"])
def test_job_that_hangs_does_not_keep_the_process_beyond_its_grace(
    here: Installation, listener: Listener, start: Start, write: Write, how: str
) -> None:
    text = job_file("hang").replace('\n    return {"done": True}', HANGS[how])
    write("ph_hang.py", text.replace("async def", "def") if how == "thread" else text)
    worker = start("ph_hang.py", "--grace", "1")
    listener.wait_for("READY=1")
    here.run("send", "user.created", ADA)
    block_until((here.folder / "started").exists)
    began = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    _, log = worker.communicate(timeout=30)
    assert worker.returncode == 0
    assert time.monotonic() - began < 8
    (ending,) = [line for line in map(json.loads, log.splitlines()) if line["event"].startswith("ending without")]
    assert ("job-hang" if how == "thread" else "job > sleep") in " ".join(ending["still_running"])


def test_second_signal_ends_it_at_once(here: Installation, listener: Listener, start: Start) -> None:
    worker = start("ph_slow.py")
    listener.wait_for("READY=1")
    here.run("send", "user.created", '{"email": "a@b.c", "userId": "7", "seconds": 600}')
    block_until((here.folder / "started").exists)
    worker.send_signal(signal.SIGTERM)
    listener.wait_for("STOPPING=1")
    began = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 128 + signal.SIGTERM
    assert time.monotonic() - began < 5


def test_it_ends_when_the_process_that_started_it_is_gone(listener: Listener, start: Start) -> None:
    reading, writing = os.pipe()
    worker = start("ph_one.py", env={PARENT_FD: str(reading)}, pass_fds=(reading,))
    os.close(reading)
    listener.wait_for("READY=1")
    os.close(writing)
    assert worker.wait(10) in (0, 1)


def test_health_is_served_on_a_port(listener: Listener, start: Start) -> None:
    port = pick_free()
    start("ph_one.py", "--port", str(port))
    listener.wait_for("READY=1")

    def get(path: str) -> tuple[int, object]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, None

    assert get("/healthz") == (200, {"status": "ok"})
    assert get("/readyz") == (200, {"status": "ready"})
    assert get("/trigger")[0] == 404


def test_missing_topics_are_named_with_the_remedy(here: Installation, start: Start, write: Write) -> None:
    write("ph_orders.py", job_file("orders", event="order.placed"))
    worker = start("ph_orders.py")
    _, said = worker.communicate(timeout=30)
    assert worker.returncode == 4
    assert f"error PH303: missing topics: {here.prefix}order." in said.decode()
    assert "playhead topics create" in said.decode()


def test_only_the_jobs_named_run(listener: Listener, start: Start) -> None:
    worker = start("ph_one.py", "ph_slow.py", "--job", "slow")
    listener.wait_for("STATUS=slow running")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
