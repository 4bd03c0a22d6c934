from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from playhead.cli.new import new, templates
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


@pytest.mark.parametrize("name", ["Acme", "1a", "a_b", "", "../x", "playhead"])
def test_name_that_can_not_be_a_packages_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="can't be a project's name"):
        new(tmp_path / "x", name=name)


def test_every_template_is_found() -> None:
    names = {str(path) for path, _ in templates("acme")}
    assert {"pyproject.toml", ".gitignore", "schemas/acme_schemas/user.py", "tests/test_welcome.py"} <= names
