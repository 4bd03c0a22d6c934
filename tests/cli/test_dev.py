"""`playhead dev` for real: a broker, a worker and HTTP on this machine, and what is left of them afterwards."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from playhead.cli.new import new
from playhead.dev.install import default_home
from playhead.dev.ports import pick_free
from playhead.history.store import HistoryStore
from playhead.records import Partition
from tests.broker_fixture import CHECKOUT, NewLocalKafka
from tests.cli.shell import PLAYHEAD, Done, environment, playhead_command, start_playhead
from tests.waiting import block_until

pytestmark = pytest.mark.kafka
START_SECONDS = 40.0
STOP_SECONDS = 30.0

Write = Callable[[str, str], Path]


class Dev:
    """A `playhead dev` of a project, with a data folder and ports of its own."""

    def __init__(self, project: Path, data_dir: Path) -> None:
        self.project, self.data_dir, self.port = project, data_dir, pick_free()
        self.env = {
            "PLAYHEAD_DATA_DIR": str(data_dir),
            "PLAYHEAD_KAFKA_HOME": str(default_home(CHECKOUT / ".playhead")),
            "PLAYHEAD_KAFKA_PORT": "0",
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.log = data_dir.with_suffix(".log")

    def start(self, *arguments: str) -> None:
        with self.log.open("ab") as log:
            self.process = start_playhead(
                "dev", "--port", str(self.port), *arguments, cwd=self.project, env=self.env, stdout=log, stderr=log
            )

    def start_below(self, *shell: str, worker: bool = False) -> None:
        """Started by a shell, which waits for it as make does."""
        with self.log.open("ab") as log:
            below = [*shell, *PLAYHEAD, "dev", "--worker" if worker else "--no-worker", "--port", str(self.port)]
            self.process = subprocess.Popen(
                ["/bin/sh", "-c", '"$@" & wait', "sh", *below],
                cwd=self.project,
                env=environment(**self.env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start_and_wait(self, *arguments: str) -> None:
        self.start(*arguments)
        block_until(self.is_ready_or_over, seconds=START_SECONDS)
        assert self.is_ready(), self.said()

    def said(self) -> str:
        return self.log.read_text()

    def request(self, path: str, body: object = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=data, headers=headers)
        try:
            with urllib.request.urlopen(asked, timeout=20) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def is_ready(self) -> bool:
        try:
            return self.request("/readyz")[0] == 200
        except OSError:
            return False

    def is_ready_or_over(self) -> bool:
        return self.is_ready() or (self.process is not None and self.process.poll() is not None)

    def run(self, *arguments: str) -> Done:
        return playhead_command(*arguments, cwd=self.project, env=self.env)

    def runs(self, count: int) -> list[dict[str, Any]]:
        """The first `count` run events, waiting for them."""
        shown = self.run("tail", "run.*", "--from", "earliest", "--limit", str(count), "--json")
        return [json.loads(line) for line in shown.out.splitlines()]

    def signal(self, number: int, *, whole_group: bool = False) -> None:
        assert self.process is not None
        (os.killpg if whole_group else os.kill)(self.process.pid, number)

    def wait(self) -> int:
        assert self.process is not None
        return self.process.wait(STOP_SECONDS)

    def processes(self) -> dict[int, str]:
        """Everything alive that was started for this data folder: pid -> command line."""
        mark = f"PLAYHEAD_DATA_DIR={self.data_dir}\0".encode()
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (folder / "environ").read_bytes() + b"\0":
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
        return {pid: command for pid, command in found.items() if command}

    def worker_pid(self) -> int:
        (pid,) = [pid for pid, command in self.processes().items() if "playhead.cli worker" in command]
        return pid


@pytest.fixture
def new_dev(new_local_kafka: NewLocalKafka, tmp_path: Path) -> Iterator[Callable[[Path], Dev]]:
    """Makes a `playhead dev` that is not started. Asks for the broker's jars first: fetching them is not the test's."""
    made: list[Dev] = []

    def make(project: Path) -> Dev:
        made.append(Dev(project, tmp_path / "data"))
        return made[-1]

    yield make
    for dev in made:
        for pid in dev.processes():
            os.kill(pid, signal.SIGKILL)
        if dev.process is not None:
            dev.process.wait()


@pytest.fixture
def dev(new_dev: Callable[[Path], Dev], tmp_path: Path) -> Dev:
    """For a project as `playhead new` makes it."""
    new(tmp_path / "shop")
    return new_dev(tmp_path / "shop")


def test_guides_flow(new_dev: Callable[[Path], Dev]) -> None:
    """One command, the guide's curl, three jobs; Ctrl-C, and nothing is left."""
    dev = new_dev(CHECKOUT)
    dev.start_and_wait()

    payload = {"email": "user@example.com", "name": "John Doe", "userId": "123456"}
    status, answer = dev.request("/trigger", {"event": "user.created", "payload": payload})
    assert (status, answer["success"], answer["message"]) == (200, True, "Event user.created sent")
    assert answer["result"]["topic"] == "user"

    runs = dev.runs(3)
    assert {run["payload"]["jobId"] for run in runs} == {"welcome-email", "crm-sync", "audit-log"}
    assert {run["name"] for run in runs} == {"run.succeeded"}
    assert {run["payload"]["eventId"] for run in runs} == {answer["result"]["id"]}
    assert dev.run("topics", "check").code == 0
    verified = dev.run("history", "verify", "--json")
    assert verified.code == 0, verified.err
    assert json.loads(verified.out)["rows"] > 0

    dev.signal(signal.SIGINT, whole_group=True)
    assert dev.wait() == 130, dev.said()
    assert dev.processes() == {}
    assert "Traceback" not in dev.said()


def test_new_project_runs_and_its_data_survives_a_restart(dev: Dev) -> None:
    dev.start_and_wait()
    assert "Try it, to start welcome" in dev.said()
    dev.request("/trigger", {"event": "user.created", "payload": {"email": "a@b.c", "userId": "1"}})
    (first,) = dev.runs(1)
    dev.signal(signal.SIGTERM)
    assert dev.wait() == 0, dev.said()
    assert dev.processes() == {}

    dev.start_and_wait()
    dev.request("/trigger", {"event": "user.created", "payload": {"email": "a@b.c", "userId": "1"}})
    again = dev.runs(2)
    assert again[0] == first
    assert [run["payload"]["lease"] for run in again] == [1, 2], "the second worker took over"


def test_what_keeps_it_from_being_ready_is_told_and_the_rest_works(dev: Dev) -> None:
    (dev.data_dir / "history").mkdir(parents=True)
    store = HistoryStore(f"sqlite:///{dev.data_dir}/history/history.db")
    store.begin({Partition("run", 0): 1_000})  # the log has no such offset
    store.close()
    dev.start()
    block_until(lambda: "Not all is ready" in dev.said(), seconds=START_SECONDS)
    assert "run[0]" in dev.said().partition("Not all is ready")[2]
    assert dev.request("/trigger", {"event": "user.created", "payload": {"email": "a@b.c", "userId": "1"}})[0] == 200
    dev.signal(signal.SIGTERM)
    assert dev.wait() == 0


def test_every_process_shows_its_metrics_and_says_where(dev: Dev) -> None:
    dev.start_and_wait()
    lines = [json.loads(line) for line in dev.said().splitlines() if line.startswith("{")]
    served = {line["part"]: line["url"] for line in lines if line["event"] == "health is served"}
    assert served.keys() == {"worker", "scheduler", "history"}
    whose = [line.get("part") or line.get("job_id") for line in lines if line["event"] == "running"]
    assert sorted(map(str, whose)) == ["history", "scheduler", "welcome"]
    urls = served.values()
    parts = []
    for url in (f"http://127.0.0.1:{dev.port}", *urls):
        with urllib.request.urlopen(f"{url}/metrics", timeout=20) as answer:
            parts += re.findall(r'playhead_ready\{part="(\w+)"\} 1\.0', answer.read().decode())
    assert (parts[0], sorted(parts)) == ("http", ["history", "http", "scheduler", "worker"])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 128 + signal.SIGTERM)])
def test_it_can_be_stopped_while_the_broker_starts(dev: Dev, number: int, code: int) -> None:
    dev.start()
    block_until(lambda: any("kafka" in command for command in dev.processes().values()), seconds=START_SECONDS)
    dev.signal(number, whole_group=True)
    assert dev.wait() == code, dev.said()
    block_until(
        lambda: not dev.processes(), seconds=STOP_SECONDS
    )  # what was being forked at that moment ends by itself
    assert "Traceback" not in dev.said()


def test_second_ctrl_c_does_not_wait_for_jobs(dev: Dev) -> None:
    job = dev.project / "consumers" / "shop_consumers" / "welcome.py"
    wait = 'import asyncio\n    io.logger.info("sleeping")\n    await asyncio.sleep(600)\n    return {'
    job.write_text(job.read_text().replace("return {", wait))
    dev.start_and_wait("--grace", "300")
    dev.request("/trigger", {"event": "user.created", "payload": {"email": "a@b.c", "userId": "1"}})
    block_until(lambda: "sleeping" in dev.said())
    dev.signal(signal.SIGINT, whole_group=True)
    block_until(lambda: "finishing what runs" in dev.said())
    dev.signal(signal.SIGINT, whole_group=True)
    assert dev.wait() == 130, dev.said()
    assert dev.processes() == {}


def test_second_ctrl_c_does_not_wait_for_a_request_and_shows_no_traceback(dev: Dev) -> None:
    dev.start_and_wait("--no-worker")
    with socket.create_connection(("127.0.0.1", dev.port), timeout=20) as slow:
        head = "POST /trigger HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\nContent-Length: 99\r\n"
        slow.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert slow.recv(1_000).startswith(b"HTTP/1.1 100 "), "it waits for the body"
        dev.signal(signal.SIGINT)
        block_until(lambda: "Stopping" in dev.said())
        dev.signal(signal.SIGINT)
        assert dev.wait() == 130, dev.said()
    assert "hurrying" in dev.said()
    assert "Traceback" not in dev.said()


def test_second_start_says_that_one_is_running(dev: Dev) -> None:
    dev.start_and_wait()
    second = dev.run("dev", "--port", "0")
    assert second.code == 4
    assert second.err.startswith("error PH305: `playhead dev` is running already: ")
    assert f"http://127.0.0.1:{dev.port} (pid {dev.process and dev.process.pid}" in second.err
    assert dev.is_ready(), "and leaves it alone"


def test_killed_supervisor_leaves_nothing(dev: Dev) -> None:
    dev.start_and_wait()
    assert len(dev.processes()) >= 3
    dev.signal(signal.SIGKILL)
    assert dev.wait() == -signal.SIGKILL
    block_until(lambda: not dev.processes(), seconds=STOP_SECONDS)
    dev.start_and_wait()


def test_it_ends_with_whoever_started_it(dev: Dev) -> None:
    dev.start_below("env", "--default-signal=HUP")
    block_until(dev.is_ready_or_over, seconds=START_SECONDS)
    dev.signal(signal.SIGKILL)
    dev.wait()
    block_until(lambda: not dev.processes(), seconds=STOP_SECONDS)
    assert "Whoever started this is gone" in dev.said()
    assert "Stopping" in dev.said(), "in good order"


def test_closed_terminal_stops_it_in_good_order(dev: Dev, tmp_path: Path) -> None:
    released = tmp_path / "released"
    job = dev.project / "consumers" / "shop_consumers" / "welcome.py"
    wait = f"""import asyncio, pathlib
    io.logger.info("waiting")
    while not pathlib.Path({str(released)!r}).exists():
        await asyncio.sleep(0.02)
    return {{"""
    job.write_text(job.read_text().replace("return {", wait))
    dev.start_below("env", "--default-signal=HUP", worker=True)
    block_until(dev.is_ready_or_over, seconds=START_SECONDS)
    dev.request("/trigger", {"event": "user.created", "payload": {"email": "a@b.c", "userId": "1"}})
    block_until(lambda: "waiting" in dev.said())
    dev.signal(signal.SIGHUP, whole_group=True)  # as the terminal does; it ends the shell too, which is noticed later
    block_until(lambda: "Whoever started this is gone" in dev.said())
    released.touch()
    dev.wait()
    block_until(lambda: not dev.processes(), seconds=STOP_SECONDS)
    assert "hurrying" not in dev.said(), "the job got its grace"


def test_nohup_lets_it_outlive_whoever_started_it(dev: Dev) -> None:
    dev.start_below("nohup")
    block_until(dev.is_ready_or_over, seconds=START_SECONDS)
    dev.signal(signal.SIGKILL)
    dev.wait()
    (pid,) = [pid for pid, command in dev.processes().items() if "playhead.cli dev" in command]
    for _ in range(2):  # each takes longer than the parent's death would
        assert dev.run("topics", "check").code == 0
    os.kill(pid, signal.SIGHUP)
    os.kill(pid, signal.SIGTERM)
    block_until(lambda: not dev.processes(), seconds=STOP_SECONDS)
    assert "Whoever started this is gone" not in dev.said()
    assert "hurrying" not in dev.said(), "one signal came, SIGTERM"


@pytest.mark.slow
def test_killed_worker_is_started_again(dev: Dev) -> None:
    dev.start_and_wait()
    killed = dev.worker_pid()
    os.kill(killed, signal.SIGKILL)
    block_until(lambda: not dev.is_ready())
    assert dev.request("/readyz")[1]["missing"] == ["worker: waiting to start again"]
    block_until(dev.is_ready, seconds=START_SECONDS)
    assert dev.worker_pid() != killed
    assert "the worker ended by itself" in dev.said()
    assert "killed by SIGKILL" in dev.said()
    dev.request("/trigger", {"event": "user.created", "payload": {"email": "a@b.c", "userId": "1"}})
    assert dev.runs(1)[0]["name"] == "run.succeeded"


def test_worker_that_can_not_go_on_ends_everything(dev: Dev) -> None:
    job = dev.project / "consumers" / "shop_consumers" / "welcome.py"
    job.write_text(job.read_text() + "\nimport os\nif 'NOTIFY_SOCKET' in os.environ:\n    raise ValueError('broken')\n")
    dev.start()
    assert dev.wait() == 2, dev.said()
    assert "error PH106" in dev.said()
    assert "ValueError: broken" in dev.said()
    assert "The worker can't go on" in dev.said()
    assert dev.processes() == {}


def test_killed_broker_ends_everything(dev: Dev) -> None:
    dev.start_and_wait()
    (broker,) = [
        pid for pid, command in dev.processes().items() if "kafka.Kafka" in command and "guard.sh" not in command
    ]
    os.kill(broker, signal.SIGKILL)
    assert dev.wait() == 4, dev.said()
    assert "error PH304: the broker ended by itself" in dev.said()
    assert dev.processes() == {}


def test_without_worker_events_are_taken_and_kept(dev: Dev) -> None:
    dev.start_and_wait("--no-worker")
    dev.request("/trigger", {"event": "user.created", "payload": {"email": "a@b.c", "userId": "1"}})
    shown = dev.run("tail", "--from", "earliest", "--limit", "1", "--json")
    assert json.loads(shown.out)["payload"]["userId"] == "1"
    dev.signal(signal.SIGINT)
    assert dev.wait() == 130


def test_configured_broker_is_used_and_left_running(dev: Dev, kafka_bootstrap: str) -> None:
    dev.env |= {"PLAYHEAD_BOOTSTRAP_SERVERS": kafka_bootstrap, "PLAYHEAD_TOPIC_PREFIX": f"t{uuid4().hex[:8]}."}
    dev.start_and_wait()
    assert f"the configured Kafka at {kafka_bootstrap}" in dev.said()
    dev.request("/trigger", {"event": "user.created", "payload": {"email": "a@b.c", "userId": "1"}})
    assert dev.runs(1)[0]["name"] == "run.succeeded"
    dev.signal(signal.SIGINT, whole_group=True)
    assert dev.wait() == 130
    assert dev.processes() == {}
    assert dev.run("topics", "check").code == 0, "the broker still answers"
    assert not (dev.data_dir / "broker").exists()


class TestBeforeAnythingIsStarted:
    def test_busy_port(self, dev: Dev) -> None:
        with socket.create_server(("127.0.0.1", dev.port)):
            done = dev.run("dev", "--port", str(dev.port))
        assert done.code == 4
        assert "error PH306" in done.err
        assert f"127.0.0.1:{dev.port}" in done.err
        assert not (dev.data_dir / "broker").exists()

    def test_busy_port_of_the_broker(self, dev: Dev) -> None:
        port = pick_free()
        with socket.create_server(("127.0.0.1", port)):
            done = dev.run("dev", "--port", str(dev.port), "--kafka-port", str(port))
        assert done.code == 4
        assert "error PH306" in done.err
        assert dev.processes() == {}

    def test_project_without_jobs(self, new_dev: Callable[[Path], Dev], tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        dev = new_dev(tmp_path / "empty")
        done = dev.run("dev")
        assert done.code == 4
        assert "error PH307" in done.err
        assert not dev.data_dir.exists()

    def test_job_that_can_not_be_imported(self, dev: Dev) -> None:
        (dev.project / "consumers" / "shop_consumers" / "bad.py").write_text("import no_such_module\n")
        done = dev.run("dev")
        assert done.code == 2
        assert "bad.py:1" in done.err
        assert not dev.data_dir.exists()
