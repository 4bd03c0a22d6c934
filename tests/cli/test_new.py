from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from playhead.cli.new import new, next_steps, templates
from playhead.errors import InvalidInput
from tests.cli.shell import environment, playhead_command


def test_project_has_a_test_that_passes(tmp_path: Path) -> None:
    project = tmp_path / "shop-floor"
    new(project)

    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-W", "error"],
        cwd=project,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_commands_find_its_catalog_and_its_job(tmp_path: Path) -> None:
    new(tmp_path / "shop")
    listed = playhead_command("jobs", "--offline", cwd=tmp_path / "shop")
    assert "consumers/shop_consumers/welcome.py" in listed.out
    assert "user.created" in playhead_command("schemas", "list", cwd=tmp_path / "shop").out


def test_sources_are_clean(tmp_path: Path) -> None:
    new(tmp_path / "shop")
    ruff = [sys.executable, "-m", "ruff", "check", "--no-cache", "--select", "E,F,W,B,UP", str(tmp_path / "shop")]
    done = subprocess.run(ruff, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_name_is_in_every_file_that_needs_it(tmp_path: Path) -> None:
    new(tmp_path / "x", name="acme")
    text = "".join(path.read_text() for path in (tmp_path / "x").rglob("*") if path.is_file())
    assert "acme_schemas" in text
    assert "$" not in text.replace("$ pytest", "").replace("$ playhead", "")
    assert not [path for path in (tmp_path / "x").rglob("*") if "PACKAGE" in path.name or path.suffix == ".tmpl"]


def test_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InvalidInput, match="not an empty folder"):
        new(tmp_path, name="acme")
    assert os.listdir(tmp_path) == ["mine.txt"]


@pytest.mark.parametrize("name", ["Acme", "1a", "a_b", "a--b", "", "../x"])
def test_name_that_can_not_be_a_packages_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="can't be a project's name"):
        new(tmp_path / "x", name=name)


def test_own_name_is_refused_with_its_own_reason(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="it is this library's own") as refused:
        new(tmp_path / "x", name="playhead")
    assert "lower case" not in refused.value.message


class TestNextSteps:
    def test_printed_lines_work_as_they_are_where_path_finds_nothing(self, tmp_path: Path) -> None:
        printed = playhead_command("new", "my shop", "--name", "shop", cwd=tmp_path, env={"PATH": "/nonexistent"}).err
        cd, *others, test, dev = [line.strip() for line in printed.splitlines() if line.startswith("  ")]
        assert others == []
        assert dev.endswith(" dev")
        listing = dev.removesuffix("dev") + "jobs --offline"  # the same command, without a broker

        done = subprocess.run(
            ["/bin/sh", "-c", f"{cd} && {test} -q && {listing}"],
            cwd=tmp_path,
            env=environment(PATH="/nonexistent"),
            capture_output=True,
            text=True,
            check=False,
        )

        assert done.returncode == 0, done.stdout + done.stderr
        assert "1 passed" in done.stdout
        assert "shop_consumers/welcome.py" in done.stdout

    def test_are_short_where_path_finds_the_commands(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        scripts(tmp_path, monkeypatch, "pytest", "playhead")
        monkeypatch.setenv("PATH", str(tmp_path))
        assert next_steps(Path("shop"), str(tmp_path / "playhead")) == ["cd shop", "pytest", "playhead dev"]

    def test_name_the_script_that_ran_where_another_is_on_path(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scripts(tmp_path, monkeypatch, "pytest", "playhead")
        monkeypatch.setenv("PATH", "/nonexistent")
        monkeypatch.chdir(tmp_path)
        here = shlex.quote(str(tmp_path))
        assert next_steps(Path("shop"), "./playhead") == ["cd shop", f"{here}/pytest", f"{here}/playhead dev"]

    def test_name_the_module_where_there_is_no_script(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        scripts(tmp_path, monkeypatch)
        python = shlex.quote(sys.executable)
        _, test, dev = next_steps(Path("shop"), "/src/playhead/cli/__main__.py")
        assert (test, dev) == (f"{python} -P -m pytest", f"{python} -P -m playhead.cli dev")

    def test_install_what_the_test_needs_where_it_is_missing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        scripts(tmp_path, monkeypatch)
        monkeypatch.setattr("playhead.cli.new.find_spec", lambda name: None)
        _, install, *_ = next_steps(Path("shop"), "playhead")
        assert install == f"uv pip install --python {shlex.quote(sys.executable)} pytest pytest-asyncio"


def scripts(folder: Path, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Have this Python lie in `folder`, beside scripts of these names."""
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    for name in names:
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)


def test_every_template_is_found() -> None:
    names = {str(path) for path, _ in templates("acme")}
    assert {"pyproject.toml", ".gitignore", "schemas/acme_schemas/user.py", "tests/test_welcome.py"} <= names
