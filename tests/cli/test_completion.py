"""What the shell is told when a word is to be completed, and the scripts that ask for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.sample import job_file
from tests.cli.shell import playhead_command

Write = Callable[[str, str], Path]


def complete(line: str, cwd: Path) -> list[str]:
    env = {"_PLAYHEAD_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    done = playhead_command(env=env, cwd=cwd)
    assert done.err == ""
    return done.out.split()


@pytest.fixture
def project(write: Write, tmp_path: Path) -> Path:
    write("ph_one.py", job_file("one") + "print('a word at import')\n")
    write("ph_two.py", job_file("two", event="parcel.lost", client="other"))
    write("pyproject.toml", '[tool.playhead]\ncatalog = ["playhead_schemas"]\nconsumers = ["ph_one.py", "ph_two.py"]')
    return tmp_path


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("playhead to", ["topics"]),
        ("playhead send us", ["user.created", "user.updated"]),
        ("playhead send par", ["parcel.lost"]),
        ("playhead send run", []),
        ("playhead tail run.", ["run.failed", "run.retrying", "run.succeeded"]),
        ("playhead timers list --event par", ["parcel.lost"]),
        ("playhead topics create pa", ["parcel", "payment"]),
        ("playhead jobs reset ", ["one", "two"]),
        ("playhead worker --job t", ["two"]),
        ("playhead timers run ", []),
    ],
)
def test_words_are_commands_names_and_ids(project: Path, line: str, words: list[str]) -> None:
    assert complete(line, project) == words


def test_broken_project_is_silent(write: Write, tmp_path: Path) -> None:
    write("ph_one.py", "1 / 0")
    write("pyproject.toml", '[tool.playhead]\ncatalog = ["playhead_schemas"]\nconsumers = ["ph_one.py"]\n')
    assert complete("playhead jobs reset ", tmp_path) == []
    assert complete("playhead send user.u", tmp_path) == ["user.updated"]


@pytest.mark.parametrize(
    ("shell", "said"), [("zsh", "#compdef playhead"), ("bash", "complete -o"), ("fish", "--no-files")]
)
def test_script_is_that_of_the_shell_named(shell: str, said: str) -> None:
    done = playhead_command("--show-completion", shell)
    assert (done.code, done.err) == (0, "")
    assert said in done.out


def test_shell_that_is_named_gets_its_completion_installed(tmp_path: Path) -> None:
    done = playhead_command("--install-completion", "fish", env={"HOME": str(tmp_path)})
    assert done.code == 0
    assert (tmp_path / ".config/fish/completions/playhead.fish").exists()


def test_unknown_shell_is_refused() -> None:
    done = playhead_command("--show-completion", "tcsh")
    assert done.code == 2
    assert "bash, zsh, fish" in done.err
