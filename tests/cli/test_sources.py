from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from playhead.cli.sources import files_in, import_file, import_module, import_package
from playhead.errors import InvalidJob

Write = Callable[[str, str], Path]
pytestmark = pytest.mark.usefixtures("imports")


class TestImportFile:
    def test_file_in_a_package_has_the_name_that_an_import_uses(self, write: Write, tmp_path: Path) -> None:
        write("consumers/ph_pkg_a/__init__.py", "")
        file = write("consumers/ph_pkg_a/receipt.py", "")

        module = import_file(file, project_root=tmp_path)

        assert module.__name__ == "ph_pkg_a.receipt"
        assert importlib.import_module("ph_pkg_a.receipt") is module, "there is no second copy"

    def test_folder_of_the_project_on_the_path_makes_no_second_name(self, write: Write, tmp_path: Path) -> None:
        write("consumers/ph_pkg_b/__init__.py", "")
        file = write("consumers/ph_pkg_b/receipt.py", "")
        sys.path.insert(0, str(tmp_path))  # as `python -m` does
        assert import_file(file, project_root=tmp_path).__name__ == "ph_pkg_b.receipt"

    def test_folder_without_init_is_named_from_the_path_above_it(self, write: Write, tmp_path: Path) -> None:
        file = write("src/ph_space_a/jobs/receipt.py", "")
        sys.path.append(str(tmp_path / "src"))
        assert import_file(file, project_root=tmp_path).__name__ == "ph_space_a.jobs.receipt"

    def test_package_itself_is_its_init_file(self, write: Write, tmp_path: Path) -> None:
        file = write("src/ph_pkg_c/__init__.py", "X = 1\n")
        assert import_file(file, project_root=tmp_path).__name__ == "ph_pkg_c"

    def test_loose_file_is_imported_once_under_its_stem(self, write: Write, tmp_path: Path) -> None:
        file = write("ph_loose.py", "X = 1\n")
        module = import_file(file, project_root=tmp_path)
        assert module.__name__ == "ph_loose"
        assert import_file(file, project_root=tmp_path) is module

    def test_loose_file_does_not_take_a_known_modules_name(self, write: Write, tmp_path: Path) -> None:
        import email

        module = import_file(write("email.py", "X = 1\n"), project_root=tmp_path)

        assert module.__name__.startswith("email_")
        assert sys.modules["email"] is email

    def test_name_that_belongs_to_another_file_is_refused(self, write: Write, tmp_path: Path) -> None:
        write("one/ph_pkg_d/__init__.py", "")
        write("one/ph_pkg_d/jobs.py", "")
        write("two/ph_pkg_d/__init__.py", "")
        import_file(tmp_path / "one/ph_pkg_d/jobs.py", project_root=tmp_path)
        with pytest.raises(InvalidJob, match=r"that name belongs to .*one"):
            import_file(write("two/ph_pkg_d/jobs.py", ""), project_root=tmp_path)


class TestFailures:
    def test_error_in_a_file_says_where(self, write: Write, tmp_path: Path) -> None:
        file = write("ph_broken_a.py", "x = 1\nx.nope\n")
        with pytest.raises(InvalidJob, match=r"AttributeError: .*nope.* \(.*ph_broken_a.py:2\)"):
            import_file(file, project_root=tmp_path)
        assert "ph_broken_a" not in sys.modules

    def test_syntax_error_says_where(self, write: Write, tmp_path: Path) -> None:
        file = write("ph_broken_b.py", "x = 1\ndef\n")
        with pytest.raises(InvalidJob, match=r"SyntaxError: .*\(.*ph_broken_b.py:2\)"):
            import_file(file, project_root=tmp_path)

    def test_playheads_own_errors_keep_their_code_and_get_a_place(self, write: Write, tmp_path: Path) -> None:
        file = write("ph_broken_c.py", "from playhead import Client\n\nClient('not/an/id')\n")
        with pytest.raises(Exception, match=r"ph_broken_c.py:3: client id 'not/an/id'") as failed:
            import_file(file, project_root=tmp_path)
        assert failed.value.code == "PH100"  # type: ignore[attr-defined]

    def test_file_that_ends_the_process_does_not(self, write: Write, tmp_path: Path) -> None:
        file = write("ph_broken_d.py", "raise SystemExit(0)\n")
        with pytest.raises(InvalidJob, match="SystemExit"):
            import_file(file, project_root=tmp_path)

    def test_module_that_is_not_there(self) -> None:
        with pytest.raises(InvalidJob, match="there is no module 'ph_no_such'"):
            import_package("ph_no_such.jobs")

    def test_module_that_misses_another_says_which(self, write: Write, tmp_path: Path) -> None:
        file = write("ph_broken_e.py", "import ph_missing\n")
        with pytest.raises(InvalidJob, match="No module named 'ph_missing'"):
            import_file(file, project_root=tmp_path)


def test_package_is_imported_with_all_that_is_in_it(write: Write, tmp_path: Path) -> None:
    for name in ("__init__", "one", "inner/__init__", "inner/two", "__main__"):
        write(f"src/ph_pkg_e/{name}.py", "")
    sys.path.append(str(tmp_path / "src"))
    names = [module.__name__ for module in import_package("ph_pkg_e")]
    assert names == ["ph_pkg_e", "ph_pkg_e.inner", "ph_pkg_e.inner.two", "ph_pkg_e.one"]


def test_module_in_the_current_folder_is_found_last(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("ph_here.py", "X = 1\n")
    monkeypatch.chdir(tmp_path)
    assert import_module("ph_here").X == 1
    assert sys.path[-1] == str(tmp_path)


def test_folder_gives_sources_and_no_tests_or_environments(write: Write, tmp_path: Path) -> None:
    for name in ("b.py", "a/x.py", "test_b.py", "conftest.py", ".hidden/x.py", "venv/lib/y.py", "b.txt"):
        write(name, "")
    write("venv/pyvenv.cfg", "")
    assert [str(path.relative_to(tmp_path)) for path in files_in(tmp_path)] == ["a/x.py", "b.py"]
