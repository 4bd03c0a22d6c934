from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from playhead.cli.project import Project
from playhead.cli.targets import FoundJob, find_jobs
from playhead.errors import InvalidJob, NoJobs
from tests.cli.sample import job_file

Write = Callable[[str, str], Path]
pytestmark = pytest.mark.usefixtures("imports")


def ids(found: list[FoundJob]) -> list[str]:
    return [item.job.id for item in found]


@pytest.fixture
def project(write: Write, tmp_path: Path, request: pytest.FixtureRequest) -> Project:
    """A package of two jobs, under a name of the test's own, as the project's consumers."""
    package = "ph_jobs_" + str(abs(hash(request.node.name)))
    write(f"consumers/{package}/__init__.py", "")
    write(f"consumers/{package}/one.py", job_file("one"))
    write(f"consumers/{package}/two.py", job_file("two"))
    return Project(tmp_path, consumers=(package,), roots=("consumers",))


class TestKindsOfTarget:
    def test_without_targets_the_projects_consumers(self, project: Project) -> None:
        assert ids(find_jobs([], project)) == ["one", "two"]

    def test_folder(self, project: Project) -> None:
        assert ids(find_jobs([str(project.root / "consumers")], project)) == ["one", "two"]

    def test_file_and_where_its_job_is(self, project: Project) -> None:
        file = project.root / "consumers" / project.consumers[0] / "two.py"
        (found,) = find_jobs([str(file)], project)
        assert (found.job.id, found.file, found.line) == ("two", file, 7)

    def test_module_with_client(self, project: Project) -> None:
        assert ids(find_jobs([f"{project.consumers[0]}.one:client"], project)) == ["one"]

    def test_module(self, project: Project) -> None:
        assert ids(find_jobs([f"{project.consumers[0]}.one"], project)) == ["one"]

    def test_same_job_named_twice_is_there_once(self, project: Project) -> None:
        package = project.consumers[0]
        folder = str(project.root / "consumers")
        assert ids(find_jobs([package, folder, f"{package}.one:client"], project)) == ["one", "two"]

    def test_client_that_another_module_imports_counts_once(self, project: Project, write: Write) -> None:
        package = project.consumers[0]
        write(f"consumers/{package}/three.py", f"from {package}.one import client\n")
        assert ids(find_jobs([], project)) == ["one", "two"]


class TestOnly:
    def test_takes_the_jobs_named(self, project: Project) -> None:
        assert ids(find_jobs([], project, only=["two"])) == ["two"]

    def test_unknown_id_lists_those_that_are_there(self, project: Project) -> None:
        with pytest.raises(InvalidJob, match="no job 'three'") as refused:
            find_jobs([], project, only=["three"])
        assert refused.value.remedy == "There are: one, two."


class TestMistakes:
    def test_id_in_two_files_names_both(self, project: Project, write: Write) -> None:
        write(f"consumers/{project.consumers[0]}/three.py", job_file("one"))
        with pytest.raises(InvalidJob, match=r"job id 'one' is defined in two files: .*one.py:7 and .*three.py:7"):
            find_jobs([], project)

    def test_nothing_named(self, tmp_path: Path) -> None:
        with pytest.raises(NoJobs) as refused:
            find_jobs([], Project(tmp_path))
        assert "[tool.playhead]" in refused.value.remedy

    def test_nothing_found(self, tmp_path: Path) -> None:
        with pytest.raises(NoJobs, match=f"no jobs in {tmp_path}"):
            find_jobs([str(tmp_path)], Project(tmp_path))

    def test_path_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(NoJobs, match=r"no file or folder 'jobs/receipt\.py'"):
            find_jobs(["jobs/receipt.py"], Project(tmp_path))
        (tmp_path / "notes.md").touch()
        with pytest.raises(NoJobs, match="is no Python file"):
            find_jobs([str(tmp_path / "notes.md")], Project(tmp_path))

    def test_name_that_is_no_client(self, project: Project) -> None:
        with pytest.raises(InvalidJob, match="'job' is no Client") as refused:
            find_jobs([f"{project.consumers[0]}.one:job"], project)
        assert refused.value.remedy == "There is: client."


def test_checkouts_jobs_are_loaded_under_their_importable_names() -> None:
    from playhead.cli.project import find_project

    found = find_jobs([str(Path(__file__).parents[2] / "consumers")], find_project(Path(__file__)))

    assert {"welcome-email", "crm-sync", "audit-log", "process-upload", "receipt", "reminder"} <= set(ids(found))
    assert not [name for name in sys.modules if name.startswith("consumers.")]
