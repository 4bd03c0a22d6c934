"""`playhead new`: a project of one's own, with a catalog, a job, and a test that passes."""

from __future__ import annotations

import re
import shlex
import sys
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from playhead.cli.output import AsJson, print_data, print_json, say
from playhead.cli.program import OWN_NAME, own, typed
from playhead.errors import InvalidInput

_NAME = re.compile(r"[a-z](?:-?[a-z0-9])*")
_SUFFIX = ".tmpl"
"""Templates are no Python files, so that nothing imports, checks or formats them."""
_NEEDED_BY_TESTS = {"pytest": "pytest", "pytest_asyncio": "pytest-asyncio"}


def new(
    folder: Annotated[Path, typer.Argument(help="The project's folder: made, or empty.")],
    name: Annotated[str | None, typer.Option(help="The organisation's or product's name; else the folder's.")] = None,
    json: AsJson = False,
) -> None:
    """Make a project: an event catalog, one job, a test that runs without a broker."""
    title = folder.resolve().name.lower() if name is None else name
    _check_name(title)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidInput(f"{folder} is not an empty folder.", remedy="Choose one that is empty or does not exist.")
    package = title.replace("-", "_")
    written = [_write(source, folder / path, title, package) for path, source in templates(package)]
    if json:
        print_json([str(path.relative_to(folder)) for path in written])
        return
    for path in written:
        print_data(f"wrote  {path}")
    say("\n  ".join(["\nNext:", *next_steps(folder, sys.argv[0])]), style="cyan")


def _check_name(title: str) -> None:
    """See that it can be a project's name.

    Raises:
        InvalidInput: says why not.
    """
    why = "lower case letters, digits and single hyphens between them, starting with a letter."
    if title == OWN_NAME:
        why = "it is this library's own, which the project depends on."
    elif _NAME.fullmatch(title):
        return
    raise InvalidInput(f"{title!r} can't be a project's name: {why}", remedy="Give one: --name acme")


def next_steps(folder: Path, program: str) -> list[str]:
    """What to type next, so that it works where it is pasted: with the Python that runs this, on PATH or not.

    Args:
        program: how this command was started, as `sys.argv[0]` has it.
    """
    missing = [package for module, package in _NEEDED_BY_TESTS.items() if find_spec(module) is None]
    steps = [f"cd {shlex.quote(str(folder))}"]
    if missing:
        python = shlex.quote(sys.executable)
        with_pip = f"{python} -m pip install" if find_spec("pip") else f"uv pip install --python {python}"
        steps.append(" ".join([with_pip, *missing]))
    steps.append(typed(Path(sys.executable).parent / "pytest", ["-P", "-m", "pytest"]))
    steps.append(f"{own(program)} dev")
    return steps


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
