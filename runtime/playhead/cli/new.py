"""`playhead new`: a project of one's own, with a catalog, a job, and a test that passes."""

from __future__ import annotations

import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from playhead.cli.output import AsJson, print_data, print_json, say
from playhead.errors import InvalidInput

_NAME = re.compile(r"[a-z](?:-?[a-z0-9])*")
_SUFFIX = ".tmpl"
"""Templates are no Python files, so that nothing imports, checks or formats them."""


def new(
    folder: Annotated[Path, typer.Argument(help="The project's folder: made, or empty.")],
    name: Annotated[str | None, typer.Option(help="The organisation's or product's name; else the folder's.")] = None,
    json: AsJson = False,
) -> None:
    """Make a project: an event catalog, one job, a test that runs without a broker."""
    title = folder.resolve().name.lower() if name is None else name
    if not _NAME.fullmatch(title) or title == "playhead":
        raise InvalidInput(
            f"{title!r} can't be a project's name: lower case letters, digits and hyphens, starting with a letter.",
            remedy="Give one: --name acme",
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidInput(f"{folder} is not an empty folder.", remedy="Choose one that is empty or does not exist.")
    package = title.replace("-", "_")
    written = [_write(source, folder / path, title, package) for path, source in templates(package)]
    if json:
        print_json([str(path.relative_to(folder)) for path in written])
        return
    for path in written:
        print_data(f"wrote  {path}")
    say(f"\nNext:\n  cd {folder}\n  pytest\n  playhead dev", style="cyan")


def templates(package: str) -> list[tuple[Path, Traversable]]:
    """(path in the project, template) of every file. `PACKAGE` in a template's path stands for the package's name."""
    return sorted(_below(files("playhead") / "scaffold", Path(), package), key=lambda item: item[0])


def _below(folder: Traversable, path: Path, package: str) -> list[tuple[Path, Traversable]]:
    found = []
    for item in folder.iterdir():
        # `dot-` stands for a dot: a .gitignore in this place would be git's own.
        name = re.sub(r"^dot-", ".", item.name.replace("PACKAGE", package))
        if item.is_dir():
            found += _below(item, path / name, package)
        elif name.endswith(_SUFFIX):
            found.append((path / name.removesuffix(_SUFFIX), item))
    return found


def _write(source: Traversable, target: Path, name: str, package: str) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    text = Template(source.read_text(encoding="utf-8")).substitute(name=name, package=package)
    target.write_text(text, encoding="utf-8")
    return target
