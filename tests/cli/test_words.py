"""What a command says beside its data, on stderr: errors and notes, and all of it as JSON after --json."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.cli.installation import ADA
from tests.cli.sample import job_file
from tests.cli.shell import NOBODY, environment, playhead_command

Write = Callable[[str, str], Path]


class TestJson:
    def test_error_has_code_message_and_remedy(self) -> None:
        done = playhead_command("send", "UserCreated", "--json", env=NOBODY)
        assert (done.code, done.out) == (2, "")
        assert json.loads(done.err) == {
            "code": "PH101",
            "message": "event name 'UserCreated': use lower case letters only.",
            "remedy": "Did you mean 'user.created'?",
            "retriable": False,
        }

    @pytest.mark.parametrize("command", [["send", "user.created", ADA], ["tail"], ["topics", "check"]])
    def test_absent_broker_is_retriable(self, command: list[str]) -> None:
        done = playhead_command(*command, "--json", env=NOBODY)
        assert (done.code, done.out) == (3, "")
        error = json.loads(done.err)
        assert (error["code"], error["retriable"]) == ("PH201", True)

    def test_wrong_command_line_is_an_error_like_others(self) -> None:
        done = playhead_command("topics", "check", "--partitions", "0", "--json")
        assert (done.code, done.out) == (2, "")
        error = json.loads(done.err)
        assert (error["code"], error["remedy"]) == ("PH100", "See: playhead topics check --help")
        assert "--partitions" in error["message"]

    def test_after_two_hyphens_it_is_an_argument(self) -> None:
        done = playhead_command("send", "a.b", "--", "--json")
        assert done.code == 2
        assert done.err.startswith("error PH100: the payload is not JSON")

    def test_exit_code_of_a_command_is_kept(self) -> None:
        """In this mode typer hands exit codes back instead of ending the process."""
        program = (
            "import sys, typer, playhead.cli.app as a\n"
            "sys.argv = ['playhead', 'x', '--json']\n"
            "def x(json: bool = False): raise typer.Exit(1)\n"
            "a.app.command()(x)\n"
            "a.run()\n"
        )
        done = subprocess.run([sys.executable, "-P", "-c", program], env=environment(), check=False)
        assert done.returncode == 1


class TestNotes:
    @pytest.fixture
    def project(self, write: Write, tmp_path: Path) -> Path:
        write("ph_one.py", job_file("one", event="parcel.lost") + "print('a word at import')\n")
        write("pyproject.toml", '[tool.playhead]\ncatalog = ["playhead_schemas"]\nconsumers = ["ph_one.py"]\n')
        return tmp_path

    @pytest.fixture
    def unreachable_default(self, write: Write, tmp_path: Path) -> dict[str, str]:
        """Where the default names nobody: on this machine somebody may listen on the usual port."""
        write(
            "site/sitecustomize.py",
            "from playhead.config import Settings\n"
            "Settings.model_fields['bootstrap_servers'].default = '127.0.0.1:9'\n"
            "Settings.model_rebuild(force=True)\n",
        )
        path = f"{tmp_path / 'site'}:{environment()['PYTHONPATH']}"
        return {"PYTHONPATH": path, "PLAYHEAD_SEND_TIMEOUT_SECONDS": "0.2"}

    def test_name_that_nobody_knows(self, project: Path) -> None:
        (note,) = notes_of_send("parcel.lots", cwd=project)
        assert note.startswith("No event of the catalog is named 'parcel.lots', and no job waits for it.")
        assert note.endswith("Did you mean 'parcel.lost'?")

    def test_name_that_a_job_knows(self, project: Path) -> None:
        printed, _ = send("parcel.lost", cwd=project)
        assert printed == "a word at import", "the module's, and no note; not on stdout, which is for data"

    def test_name_that_the_catalog_knows(self, project: Path) -> None:
        assert notes_of_send("user.created", ADA, cwd=project) == []

    def test_name_where_there_is_no_project(self, tmp_path: Path) -> None:
        (note,) = notes_of_send("parcel.lost", cwd=tmp_path)
        assert note == "Nothing is known of 'parcel.lost': no pyproject.toml here names a catalog or jobs."

    def test_name_where_the_jobs_are_broken(self, project: Path) -> None:
        (project / "ph_one.py").write_text("1 / 0\n")
        (note,) = notes_of_send("parcel.lost", cwd=project)
        assert "The jobs can't be loaded: " in note
        assert "ZeroDivisionError" in note

    def test_default_broker_is_named(self, project: Path, unreachable_default: dict[str, str]) -> None:
        (note,) = notes_of_send("user.created", ADA, cwd=project, env=unreachable_default)
        assert note == "No broker is configured and no `playhead dev` runs here: taking the default, 127.0.0.1:9."


def send(*arguments: str, cwd: Path, env: Mapping[str, str] = NOBODY) -> list[str]:
    """The lines on stderr of a `send` that finds no broker."""
    done = playhead_command("send", *arguments, "--json", cwd=cwd, env=env)
    *lines, error = done.err.splitlines()
    assert (done.code, done.out, json.loads(error)["code"]) == (3, "", "PH201"), "a note is no error, and no data"
    return [*lines, error]


def notes_of_send(*arguments: str, cwd: Path, env: Mapping[str, str] = NOBODY) -> list[str]:
    """The notes among them."""
    lines = send(*arguments, cwd=cwd, env=env)[:-1]
    return [json.loads(line)["note"] for line in lines if line.startswith("{")]
