"""The command as a shell sees it: help, exit codes, streams."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.sample import job_file
from tests.cli.shell import NOBODY, PLAYHEAD, environment, playhead_command

Write = Callable[[str, str], Path]


class TestHelp:
    def test_names_every_command(self) -> None:
        done = playhead_command("--help")
        assert done.code == 0
        for command in ("dev", "worker", "history", "http", "send", "topics", "tail", "jobs", "new", "schemas"):
            assert f" {command} " in done.out

    @pytest.mark.parametrize(
        "command", ["dev", "worker", "history", "http", "send", "topics", "tail", "jobs", "new", "schemas"]
    )
    def test_is_there_for_each(self, command: str) -> None:
        assert playhead_command(command, "--help").code == 0

    def test_loads_nothing_that_is_slow(self) -> None:
        program = (
            "import sys, playhead.cli.app\n"
            "slow = {'aiokafka', 'fastapi', 'uvicorn', 'uvloop', 'structlog', 'playhead.engine'}\n"
            "print(sorted(slow & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", program], env=environment(), capture_output=True, text=True)
        assert done.stdout.strip() == "[]"

    def test_without_its_extra_the_command_says_what_to_install(self) -> None:
        program = "import sys; sys.modules['typer'] = None; from playhead.cli import main; main()"
        done = subprocess.run([sys.executable, "-c", program], env=environment(), capture_output=True, text=True)
        assert done.returncode == 1
        assert done.stderr == "The command line needs typer: pip install 'playhead[cli]'\n"


class TestExitCodes:
    def test_usage(self) -> None:
        assert playhead_command("no-such-command").code == 2
        assert playhead_command("worker", "--port", "70000").code == 2

    def test_invalid_input(self) -> None:
        done = playhead_command("send", "UserCreated", env=NOBODY)
        said = "error PH101: event name 'UserCreated': use lower case letters only.\n  Did you mean 'user.created'?\n"
        assert done == (2, "", said)

    def test_payload_that_breaks_its_schema_names_the_fields(self) -> None:
        done = playhead_command("send", "user.created", '{"userId": 7}', env=NOBODY)
        assert done.code == 2
        assert "email: Field required" in done.err
        assert "userId: Input should be a valid string" in done.err

    def test_setting(self) -> None:
        done = playhead_command("tail", env={"PLAYHEAD_SEND_TIMEOUT_SECONDS": "soon"})
        assert done.code == 2
        assert "PLAYHEAD_SEND_TIMEOUT_SECONDS" in done.err

    @pytest.mark.parametrize("command", [["send", "a.b"], ["tail"], ["topics", "check"]])
    def test_broker_away(self, command: list[str]) -> None:
        done = playhead_command(*command, env=NOBODY)
        assert done.code == 3
        assert "error PH201: no broker answers at 127.0.0.1:9 (Connection refused).\n" in done.err
        assert "playhead dev" in done.err
        assert done.out == ""

    def test_broker_away_names_each_address_once(self) -> None:
        env = {**NOBODY, "PLAYHEAD_BOOTSTRAP_SERVERS": "127.0.0.1:9,127.0.0.2:9"}
        done = playhead_command("send", "a.b", env=env)
        assert [done.err.count(address) for address in ("127.0.0.1", "127.0.0.2", "Connection refused")] == [1, 1, 2]

    def test_fatal(self, tmp_path: Path) -> None:
        done = playhead_command("worker", cwd=tmp_path, env=NOBODY)
        assert done.code == 4
        assert done.err.startswith("error PH307: no jobs were named")

    @pytest.mark.parametrize("command", ["http --port 0", "scheduler", "history", "dev --port 0"])
    def test_data_folder_that_can_not_be_written(self, command: str, tmp_path: Path) -> None:
        """As in a container whose root file system is read-only."""
        (tmp_path / "file").touch()
        env = {**NOBODY, "PLAYHEAD_DATA_DIR": str(tmp_path / "file" / "data")}
        done = playhead_command(*command.split(), env=env)
        assert done.code == 4
        assert f"error PH315: the folder {tmp_path}/file/data" in done.err
        assert "can't be written: Not a directory." in done.err

    def test_negative_check(self, write: Write, tmp_path: Path) -> None:
        write("pyproject.toml", '[tool.playhead]\ncatalog = ["ph_stale"]\nroots = ["."]\n')
        event = 'from playhead import TypedEvent\n\nclass Made(TypedEvent, name="thing.made"):\n    size: int\n'
        write("ph_stale/__init__.py", event)
        assert playhead_command("schemas", "export", "--check", cwd=tmp_path).code == 1
        assert playhead_command("schemas", "export", cwd=tmp_path).code == 0
        assert playhead_command("schemas", "export", "--check", cwd=tmp_path).code == 0
        assert (tmp_path / "ph_stale/exported/thing.made.json").exists()

    def test_bug_shows_its_traceback(self, write: Write, tmp_path: Path) -> None:
        write("sitecustomize.py", "import playhead.cli.send as s\ns.read_payload = lambda text: 1 / 0\n")
        done = playhead_command("send", "a.b", env={"PYTHONPATH": f"{tmp_path}:{environment()['PYTHONPATH']}"})
        assert done.code == 70
        assert "ZeroDivisionError" in done.err
        assert "This is a bug in Playhead" in done.err

    def test_traceback_of_an_error_on_request(self) -> None:
        assert "Traceback" not in playhead_command("send", "X.y").err
        assert "Traceback" in playhead_command("send", "X.y", env={"PLAYHEAD_TRACEBACK": "1"}).err


class TestStreams:
    def test_reader_that_closes_early_hears_nothing(self) -> None:
        command = [*PLAYHEAD, "schemas", "list", "--json"]
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "wb") as out:
            done = subprocess.run(
                command, env=environment(), stdout=out, stderr=subprocess.PIPE, text=True, check=False
            )
        assert (done.returncode, done.stderr) == (141, "")

    def test_ctrl_c_is_quiet(self) -> None:
        """The command reads its payload from a pipe that never ends."""
        reading, writing = os.pipe()
        process = subprocess.Popen(
            [*PLAYHEAD, "send", "a.b", "-"],
            env=environment(PYTHONINSPECT=""),
            stdin=reading,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # A shell's background job ignores SIGINT, and so would its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        os.write(writing, b"x" * 1_000_000)  # more than the pipe holds: it has begun to read when this returns
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        os.close(reading)
        os.close(writing)
        assert (process.returncode, out, err) == (130, b"", b"")

    def test_json_of_jobs_is_one_document(self, write: Write, tmp_path: Path) -> None:
        write("ph_json.py", job_file("one"))
        write("pyproject.toml", '[tool.playhead]\nconsumers = ["ph_json.py"]\n')
        done = playhead_command("jobs", "--json", "--offline", cwd=tmp_path)
        assert json.loads(done.out) == [
            {"id": "one", "name": "one", "version": "1.0.0", "trigger": "user.created", "file": "ph_json.py", "line": 7}
        ]
        assert done.err == ""

    def test_jobs_without_a_broker_say_so_on_stderr(self, write: Write, tmp_path: Path) -> None:
        write("ph_json.py", job_file("one"))
        write("pyproject.toml", '[tool.playhead]\nconsumers = ["ph_json.py"]\n')
        done = playhead_command("jobs", cwd=tmp_path, env=NOBODY)
        assert done.code == 0
        assert "Members and lag are unknown: no broker answers" in done.err
        assert done.out.splitlines()[1].split()[-2:] == ["unknown", "unknown"]

    def test_jobs_without_a_broker_are_told_from_those_that_never_ran(self, write: Write, tmp_path: Path) -> None:
        write("ph_json.py", job_file("one"))
        write("pyproject.toml", '[tool.playhead]\nconsumers = ["ph_json.py"]\n')
        done = playhead_command("jobs", "--json", cwd=tmp_path, env=NOBODY)
        (row,) = json.loads(done.out)
        assert (done.code, row["id"], row["state"], row["members"], row["lag"]) == (0, "one", "unknown", None, None)
        assert json.loads(done.err)["note"].startswith("Members and lag are unknown: no broker answers")

    def test_version_is_data(self) -> None:
        done = playhead_command("--version")
        assert (done.code, done.err) == (0, "")
        assert done.out.strip()
