"""Pages of the catalog: which events there are, what is in them, and which jobs listen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from playhead.dashboard.forms import Field, form_of
from playhead.dashboard.web import Ask, NoSuchPage, View
from playhead.events import TypedEvent, catalog, entity_of
from playhead.job import Job
from playhead.topics import RESERVED_ENTITIES


class Listed(NamedTuple):
    """An event of the catalog."""

    name: str
    about: str
    key: str | None
    jobs: Sequence[str]


class FieldRow(NamedTuple):
    """A field of an event, as the page names it."""

    path: str
    kind: str
    required: bool
    about: str
    choices: Sequence[Any]


def own_events() -> Mapping[str, type[TypedEvent]]:
    """What the installation's catalog has: Playhead's own events are not to be sent."""
    return {name: model for name, model in sorted(catalog().items()) if entity_of(name) not in RESERVED_ENTITIES}


def schema_of(model: type[TypedEvent]) -> dict[str, Any]:
    """The JSON Schema of a payload as it is sent."""
    return model.model_json_schema(by_alias=True, mode="validation")


def about(model: type[TypedEvent]) -> str:
    """The first sentence or so of what its class says."""
    return " ".join((model.__doc__ or "").split("\n\n")[0].split())


class CatalogPages:
    """The pages.

    Args:
        jobs: those of this project.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = jobs

    def index(self, ask: Ask) -> View:
        """Every event, by entity."""
        entities: dict[str, list[Listed]] = {}
        for name, model in own_events().items():
            entities.setdefault(entity_of(name), []).append(self._listed(name, model))
        schedules = [(job.id, job.schedule.schedule.describe()) for job in self._jobs if job.schedule is not None]
        return View("catalog.html", {"entities": sorted(entities.items()), "schedules": schedules})

    def one(self, ask: Ask) -> View:
        """One event with its schema."""
        name = ask.path["name"]
        model = own_events().get(name)
        if model is None:
            raise NoSuchPage(f"the catalog has no event {name[:128]!r}.")
        schema = schema_of(model)
        fields = list(_rows(form_of(schema), ""))
        facts = {"event": self._listed(name, model), "schema": schema, "fields": fields}
        return View("schema.html", facts)

    def _listed(self, name: str, model: type[TypedEvent]) -> Listed:
        key = model.__event__.key
        on_the_wire = None if key is None else model.model_fields[key].alias or key
        jobs = sorted(job.id for job in self._jobs if job.schedule is None and job.trigger.name == name)
        return Listed(name, about(model), on_the_wire, jobs)


def _rows(form: Field, within: str) -> Iterator[FieldRow]:
    for child in form.children:
        path = f"{within}{child.label}"
        yield FieldRow(path, child.kind, child.required, child.description, child.choices)
        if child.kind == "array" and child.item is not None and child.item.kind == "object":
            yield from _rows(child.item, f"{path}[].")
        else:
            yield from _rows(child, f"{path}.")
