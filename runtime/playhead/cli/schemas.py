"""`playhead schemas`: the catalog's events, and their schemas for other languages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from playhead.cli.exits import NEGATIVE
from playhead.cli.output import AsJson, print_data, print_json, print_table, say
from playhead.errors import InvalidSetting

if TYPE_CHECKING:
    from pathlib import Path

    from playhead.cli.project import Project

app = typer.Typer(name="schemas", help="Show and export the event catalog.", no_args_is_help=True)


@app.command(name="list")
def list_events(json: AsJson = False) -> None:
    """List the catalog's events: name, key, version, and fields as on the wire."""
    from playhead.cli.export import json_schema
    from playhead.cli.project import find_project
    from playhead.events import catalog
    from playhead.topics import RESERVED_ENTITIES

    find_project().import_catalog()
    events = {n: m for n, m in sorted(catalog().items()) if m.__event__.name.split(".")[0] not in RESERVED_ENTITIES}
    if json:
        print_json([json_schema(model) for model in events.values()])
        return
    rows = []
    for name, model in events.items():
        on_wire = {field: facts.alias or field for field, facts in model.model_fields.items()}
        optional = {field for field, facts in model.model_fields.items() if not facts.is_required()}
        fields = " ".join(wire + ("?" if field in optional else "") for field, wire in on_wire.items())
        key = model.__event__.key
        rows.append((name, on_wire[key] if key else "", str(model.__event__.version), fields))
    print_table(("event", "key", "version#", "fields"), rows)


@app.command()
def export(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit code 1 when it is stale.")] = False,
) -> None:
    """Write a JSON Schema for each event, and an AsyncAPI document, into each catalog package's `exported` folder."""
    from playhead.cli.project import find_project

    project = find_project()
    project.import_catalog()
    if not project.catalog:
        raise InvalidSetting(
            "there is no catalog to export.", remedy='Set catalog = ["…"] in [tool.playhead] of pyproject.toml.'
        )
    stale = [path for name in project.catalog for path in _export(project, name, write=not check)]
    for path in stale:
        print_data(f"{'stale' if check else 'wrote'}  {project.relative(path)}")
    if not stale:
        say("The export is up to date.", style="green")
    elif check:
        say("Bring it up to date: playhead schemas export", style="cyan")
        raise typer.Exit(NEGATIVE)


def _export(project: Project, package: str, *, write: bool) -> list[Path]:
    """The files of a package's export that are not what they should be; with `write`, they are afterwards."""
    import sys
    from pathlib import Path

    from playhead.cli.export import exported_files
    from playhead.events import catalog

    module = sys.modules[package]
    folder = Path(module.__path__[0] if hasattr(module, "__path__") else str(module.__file__)) / "exported"
    models = [model for _, model in sorted(catalog().items()) if f"{model.__module__}.".startswith(package + ".")]
    wanted = {folder / name: text for name, text in exported_files(package, models).items()}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    surplus = [path for path in sorted(folder.glob("*.json")) if path not in wanted]
    if write and (stale or surplus):
        folder.mkdir(exist_ok=True)
        for path in stale:
            path.write_text(wanted[path], encoding="utf-8")
        for path in surplus:
            path.unlink()
    return stale + surplus
