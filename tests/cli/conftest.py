"""Fixtures of the command line's tests."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from playhead.events import _catalog


@pytest.fixture
def imports() -> Iterator[None]:
    """Whatever a test imports, and puts on sys.path or into the catalog, is gone afterwards."""
    path, modules, events = list(sys.path), set(sys.modules), dict(_catalog)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]
    _catalog.clear()
    _catalog.update(events)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Writes a file below the test's folder, and gives its path."""

    def write_file(name: str, text: str = "") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write_file
