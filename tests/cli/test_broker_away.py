"""Processes that run for long, started while nobody answers where the broker should be."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from playhead.dev.ports import pick_free
from tests.cli.sample import job_file
from tests.cli.shell import playhead_command, start_playhead
from tests.waiting import block_until

Start = Callable[..., "Running"]


class Running:
    """A process of the command line that serves a port."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process, self._port, self._log = process, port, log

    def answer(self, path: str, body: object = None) -> tuple[int, Any]:
        """(status, JSON) of a request; status 0 where nobody listens."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self._port}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)
        except OSError:
            return 0, None

    def logged(self) -> list[str]:
        return [json.loads(line)["event"] for line in self._log.read_text().splitlines() if line.startswith("{")]


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address that is taken, and where nobody listens."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def env(nobody: str, tmp_path: Path) -> dict[str, str]:
    return {
        "PLAYHEAD_BOOTSTRAP_SERVERS": nobody,
        "PLAYHEAD_SEND_TIMEOUT_SECONDS": "0.3",
        "PLAYHEAD_DATA_DIR": str(tmp_path / ".playhead"),
    }


@pytest.fixture
def start(env: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    started = []

    def start_command(*arguments: str) -> Running:
        port, log = pick_free(), tmp_path / "log"
        with log.open("wb") as stderr:
            process = start_playhead(*arguments, "--port", str(port), cwd=tmp_path, env=env, stderr=stderr)
        started.append(process)
        return Running(process, port, log)

    yield start_command
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def worker(start: Start, tmp_path: Path) -> Running:
    (tmp_path / "ph_one.py").write_text(job_file("one"))
    return start("worker", "ph_one.py")


class TestWorker:
    def test_is_alive_and_not_ready_and_says_what_it_waits_for(self, worker: Running) -> None:
        block_until(lambda: worker.answer("/healthz") == (200, {"status": "ok"}), seconds=20)
        status, body = worker.answer("/readyz")
        assert (status, body["code"]) == (503, "PH612")
        assert body["missing"] == ["broker: not reached", "worker: waiting for the broker"]
        block_until(lambda: worker.logged().count("waiting for the broker") >= 2, seconds=20)
        assert worker.process.poll() is None

    def test_ends_in_good_order_while_it_waits(self, worker: Running) -> None:
        block_until(lambda: "waiting for the broker" in worker.logged(), seconds=20)
        worker.process.send_signal(signal.SIGTERM)
        assert worker.process.wait(10) == 0

    def test_unknown_path_is_json(self, worker: Running) -> None:
        block_until(lambda: worker.answer("/healthz")[0] == 200, seconds=20)
        status, body = worker.answer("/trigger")
        assert (status, body["code"]) == (404, "PH610")


class TestHttp:
    def test_is_alive_and_refuses_events_with_503(self, start: Start) -> None:
        http = start("http")
        block_until(lambda: http.answer("/healthz") == (200, {"status": "ok"}), seconds=20)
        status, body = http.answer("/readyz")
        assert (status, body["missing"]) == (503, ["broker: not reached"])
        status, body = http.answer("/trigger", {"event": "user.created", "payload": {}})
        assert (status, body["code"]) == (503, "PH201")
        block_until(lambda: "waiting for the broker" in http.logged(), seconds=20)
        http.process.send_signal(signal.SIGTERM)
        assert http.process.wait(20) == 0


class TestCommand:
    def test_that_only_asks_does_not_wait(self, env: dict[str, str], tmp_path: Path) -> None:
        assert playhead_command("topics", "describe", cwd=tmp_path, env=env).code == 3
