"""The project that a command runs in: the nearest pyproject.toml with a [tool.playhead] table.

[tool.playhead]
catalog = ["acme_schemas"]              packages with the events' classes
consumers = ["acme_consumers"]          what `playhead worker` and `playhead dev` run
roots = ["schemas", "consumers"]        folders to import from where the project is not installed
"""

from __future__ import annotations

import importlib
import os
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from playhead.errors import InvalidSetting

DATA_DIR = "PLAYHEAD_DATA_DIR"
_SETTINGS = ("catalog", "consumers", "roots")


@dataclass(frozen=True, slots=True)
class Project:
    """Where a project is and what it has. Without a pyproject.toml: the current folder, and nothing."""

    root: Path
    catalog: tuple[str, ...] = ()
    consumers: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()

    @property
    def data_dir(self) -> Path:
        """Where `playhead dev` keeps its broker and data: $PLAYHEAD_DATA_DIR, else `.playhead` in the project."""
        return Path(os.environ.get(DATA_DIR) or self.root / ".playhead").absolute()

    def make_importable(self) -> None:
        """Put the project's roots on sys.path, unless they are there because it is installed."""
        known = {os.path.realpath(entry) for entry in sys.path if entry}
        for name in reversed(self.roots):
            root = os.path.realpath(self.root / name)
            if root not in known:
                sys.path.insert(0, root)

    def import_catalog(self) -> None:
        """Import the catalog's packages, so that payloads are checked and topics known.

        Raises:
            InvalidSetting: one can't be imported.
        """
        self.make_importable()
        for name in self.catalog:
            try:
                importlib.import_module(name)
            except ImportError as error:
                raise InvalidSetting(
                    f"catalog {name!r} of {self.root / 'pyproject.toml'} can't be imported: {error}.",
                    remedy="Install the project, or name the folder that the package is in: [tool.playhead] roots.",
                ) from error

    def relative(self, path: Path) -> str:
        """A path as short as it can be said in this project."""
        try:
            return str(path.relative_to(self.root))
        except ValueError:
            return str(path)


def find_project(start: Path | None = None) -> Project:
    """The project around `start`, or around the current folder.

    Raises:
        InvalidSetting: its pyproject.toml can't be read.
    """
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        file = folder / "pyproject.toml"
        if file.is_file():
            table = _table(file)
            if table is not None:
                return Project(folder, **{name: _names(file, table, name) for name in _SETTINGS})
    return Project(here)


def _table(file: Path) -> dict[str, Any] | None:
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidSetting(f"{file} can't be read: {error}.") from error
    table = document.get("tool", {}).get("playhead")
    if table is None:
        return None
    unknown = set(table).difference(_SETTINGS) if isinstance(table, dict) else {"(not a table)"}
    if unknown:
        raise InvalidSetting(
            f"{file}: [tool.playhead] has no setting {', '.join(sorted(unknown))}.",
            remedy="It has catalog, consumers and roots.",
        )
    return dict(table)


def _names(file: Path, table: dict[str, Any], name: str) -> tuple[str, ...]:
    value = table.get(name, [])
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise InvalidSetting(f"{file}: [tool.playhead] {name} is a list of names, not {value!r}.")
    return tuple(value)
