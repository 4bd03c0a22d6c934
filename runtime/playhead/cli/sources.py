"""Importing the files of a project, each under the one name that the rest of the program knows it by.

A file that was imported under two names would exist twice: two copies of every class, two clients, every job double.
So a path is turned into the dotted name that an `import` statement would use, by finding the root that it lies under:

    consumers/acme_consumers/receipt.py     acme_consumers/ has an __init__.py, consumers/ has none: `consumers/` is the
                                            root, put on sys.path if it is not there; `acme_consumers.receipt`
    jobs/receipt.py                         no package: relative to the deepest folder of sys.path above it
    /somewhere/receipt.py                   nothing of sys.path above it: a loose file, imported under its stem
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import pkgutil
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from playhead.errors import InvalidJob, PlayheadError

_SKIPPED_FILES = ("test_", "conftest.py", "setup.py")


def files_in(folder: Path) -> Iterator[Path]:
    """The Python files below a folder in a stable order: no tests, nothing hidden, no virtual environment."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "__pycache__", "node_modules")):
            continue
        if path.is_dir():
            if not (path / "pyvenv.cfg").exists():
                yield from files_in(path)
        elif path.suffix == ".py" and not path.name.startswith(_SKIPPED_FILES):
            yield path


def import_file(file: Path, *, project_root: Path) -> ModuleType:
    """Import a file under its own name.

    Raises:
        InvalidJob: it can't be imported, or its name belongs to another file.
    """
    file = file.resolve()
    name, root = _name_and_root(file, project_root)
    if root is None:
        return _import_loose(file)
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    module = import_module(name)
    found = getattr(module, "__file__", None)
    if found is None or Path(found).resolve() != file:
        raise InvalidJob(
            f"{file} would be imported as {name!r}, but that name belongs to {found or 'another module'}.",
            remedy="Rename one of them, or put the file into a package.",
        )
    return module


def import_package(name: str) -> list[ModuleType]:
    """Import a module and, where it is a package, everything in it.

    Raises:
        InvalidJob: one of them can't be imported.
    """
    modules = [import_module(name)]
    for found in pkgutil.walk_packages(getattr(modules[0], "__path__", []), prefix=name + "."):
        if not found.name.rpartition(".")[2].startswith("__main__"):
            modules.append(import_module(found.name))
    return modules


def import_module(name: str) -> ModuleType:
    """Import by dotted name. As a last resort its top is looked for in the current folder.

    Raises:
        InvalidJob: it can't be imported.
    """
    top = name.partition(".")[0]
    if top not in sys.modules and importlib.util.find_spec(top) is None:
        here = Path.cwd()
        if (here / top).is_dir() or (here / f"{top}.py").is_file():
            sys.path.append(str(here))
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise _import_failure(name, error) from error


def _name_and_root(file: Path, project_root: Path) -> tuple[str, Path | None]:
    top = file.parent
    while (top / "__init__.py").exists() and top != top.parent:
        top = top.parent
    in_package = top != file.parent
    on_path = {Path(os.path.realpath(entry)) for entry in sys.path if entry}
    if top not in on_path:
        # `python -m` puts the project's own folder on sys.path, from where each root would look like a package.
        above = [root for root in on_path if root in top.parents and not (in_package and root == project_root)]
        fitting = [root for root in above if all(part.isidentifier() for part in file.relative_to(root).parts[:-1])]
        if fitting:
            top = max(fitting, key=lambda root: len(root.parts))
        elif not in_package:
            return file.stem, None
    parts = list(file.relative_to(top).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts), top


def _import_loose(file: Path) -> ModuleType:
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) == str(file):
            return module
    name = file.stem
    if not name.isidentifier() or name in sys.modules or importlib.util.find_spec(name) is not None:
        # `email.py` must not take the place of the standard library's.
        name = f"{name}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _import_failure(str(file), error) from error
    return module


def _import_failure(what: str, error: BaseException) -> PlayheadError:
    """The error to show: what can't be imported, and the last place outside the import system where it went wrong."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "importlib" not in f.filename]
    own = [frame for frame in frames if frame.filename != __file__ and not _is_playhead(frame.filename)]
    where = f"{own[-1].filename}:{own[-1].lineno}" if own else ""
    if isinstance(error, SyntaxError) and error.filename:
        where = f"{error.filename}:{error.lineno}"
    if isinstance(error, PlayheadError):
        error.message = f"{where or what}: {error.message}"
        return error
    said = f"{type(error).__name__}: {error}".rstrip(": .")
    if isinstance(error, ModuleNotFoundError) and error.name and what.startswith(error.name):
        return InvalidJob(
            f"there is no module {error.name!r}.",
            remedy="Name a file or a folder, or install the project, or set [tool.playhead] roots.",
        )
    return InvalidJob(f"{what} can't be imported: {said}" + (f" ({where})." if where else "."))


def _is_playhead(filename: str) -> bool:
    return Path(filename).is_relative_to(Path(__file__).parents[1])
