from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from playhead.cli.connection import DEV_LOCK, settings_of
from playhead.cli.project import Project, find_project
from playhead.dev.lock import FileLock
from playhead.errors import InvalidSetting

Write = Callable[[str, str], Path]


class TestFindProject:
    def test_the_nearest_table_above_counts(self, write: Write, tmp_path: Path) -> None:
        write("pyproject.toml", '[tool.playhead]\ncatalog = ["c"]\nconsumers = ["j"]\nroots = ["src"]\n')
        write("deep/er/pyproject.toml", "[project]\nname = 'other'\n")

        project = find_project(tmp_path / "deep" / "er")

        assert project == Project(tmp_path, ("c",), ("j",), ("src",))

    def test_without_any_it_is_the_folder_itself(self, tmp_path: Path) -> None:
        assert find_project(tmp_path) == Project(tmp_path)

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("[tool.playhead]\nconsumer = []\n", "no setting consumer"),
            ("[tool.playhead]\nconsumers = 'x'\n", "consumers is a list of names"),
            ("[tool]\nplayhead = 1\n", "not a table"),
            ("[tool.playhead\n", "can't be read"),
        ],
    )
    def test_a_table_that_can_not_be_used_is_named(self, write: Write, tmp_path: Path, text: str, says: str) -> None:
        write("pyproject.toml", text)
        with pytest.raises(InvalidSetting, match=says):
            find_project(tmp_path)


@pytest.mark.usefixtures("imports")
class TestImporting:
    def test_roots_make_a_project_importable_that_is_not_installed(self, write: Write, tmp_path: Path) -> None:
        write("schemas/ph_catalog_a/__init__.py", "")
        Project(tmp_path, catalog=("ph_catalog_a",), roots=("schemas",)).import_catalog()
        assert "ph_catalog_a" in sys.modules

    def test_a_root_that_is_on_the_path_already_is_not_added_again(self, tmp_path: Path) -> None:
        root = tmp_path / "schemas"
        root.mkdir()
        sys.path.append(str(root))
        Project(tmp_path, roots=("schemas",)).make_importable()
        assert sys.path.count(str(root)) == 1

    def test_catalog_that_is_not_there_names_the_remedy(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidSetting, match="'ph_no_such'") as refused:
            Project(tmp_path, catalog=("ph_no_such",)).import_catalog()
        assert "roots" in refused.value.remedy


class TestSettingsOf:
    def test_a_running_dev_of_the_project_is_found(self, tmp_path: Path) -> None:
        project = Project(tmp_path)
        lock = FileLock.take(project.data_dir / DEV_LOCK)
        lock.write_facts(bootstrap_servers="127.0.0.1:4711")

        assert settings_of(project, {}).bootstrap_servers == "127.0.0.1:4711"
        assert settings_of(project, {"PLAYHEAD_BOOTSTRAP_SERVERS": "kafka:9092"}).bootstrap_servers == "kafka:9092"

        lock.close()
        assert settings_of(project, {}).bootstrap_servers == "127.0.0.1:9092", "what a dead one left does not count"
