"""`playhead topics`: create, describe and check the topics that the project needs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from playhead.cli.exits import NEGATIVE
from playhead.cli.names import complete_entity
from playhead.cli.output import AsJson, print_data, print_json, print_table, say
from playhead.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from playhead.broker.contract import TopicInfo
    from playhead.cli.project import Project
    from playhead.topics import TopicSpec

app = typer.Typer(name="topics", help="Create, describe and check topics.", no_args_is_help=True)

MAX_PARTITIONS = 4_096
Partitions = Annotated[int, typer.Option(min=1, max=MAX_PARTITIONS, help="Partitions of each topic.")]


@app.command()
def create(
    entity: Annotated[
        list[str] | None,
        typer.Argument(
            help="Entities, such as user. Without: the catalog's and the jobs'.", autocompletion=complete_entity
        ),
    ] = None,
    partitions: Partitions = 4,
    replication: Annotated[int, typer.Option(help="Copies of each topic; -1 takes the broker's default.")] = -1,
    json: AsJson = False,
) -> None:
    """Create what does not exist: Playhead's own topics, and one for each entity. What exists is left as it is."""
    from playhead.cli.connection import connected, settings_of
    from playhead.cli.project import find_project

    project = find_project()
    settings = settings_of(project)
    specs = _wanted(project, settings.topic_prefix, entity, partitions=partitions, replication=replication)

    async def work() -> tuple[set[str], dict[str, int]]:
        async with connected(settings) as broker:
            made = set(await broker.create_topics(specs))
            return made, {spec.name: (await broker.topic(spec.name)).partitions for spec in specs}

    made, counts = asyncio.run(work())
    rows = [{"topic": s.name, "partitions": counts[s.name], "created": s.name in made} for s in specs]
    if json:
        print_json(rows)
        return
    for spec in specs:
        new = spec.name in made
        print_data(_line(*("created", "green") if new else ("exists ", "dim"), spec.name))


@app.command()
def describe(
    entity: Annotated[
        list[str] | None,
        typer.Argument(help="Entities, such as user. Without: all that there are.", autocompletion=complete_entity),
    ] = None,
    json: AsJson = False,
) -> None:
    """Show the installation's topics: partitions, replication, retention, and how far each has grown."""
    from playhead.cli.connection import connected, settings_of
    from playhead.cli.project import find_project
    from playhead.records import Partition
    from playhead.topics import unknown_topic

    settings = settings_of(find_project())

    async def work() -> tuple[list[TopicInfo], dict[Partition, tuple[int, int]]]:
        async with connected(settings) as broker:
            found = [t for t in await broker.topics() if t.name.startswith(settings.topic_prefix)]
            if entity:
                by_name = {topic.name: topic for topic in found}
                names = [name if name in by_name else settings.topic_prefix + name for name in dict.fromkeys(entity)]
                if missing := [name for name in names if name not in by_name]:
                    raise unknown_topic(missing[0], prefix=settings.topic_prefix)
                found = [by_name[name] for name in names]
            parts = [Partition(t.name, p) for t in found for p in range(t.partitions)]
            return sorted(found, key=lambda t: t.name), await broker.bounds(parts)

    found, bounds = asyncio.run(work())
    rows = [_described(topic, bounds) for topic in found]
    if json:
        print_json(rows)
        return
    names = ("topic", "partitions", "replication", "cleanup", "retention", "offsets")
    print_table(
        ("topic", "partitions#", "replication#", "cleanup", "retention", "offsets#"),
        ([f"{row[name]:,}" if isinstance(row[name], int) else str(row[name]) for name in names] for row in rows),
    )


@app.command()
def check(
    partitions: Annotated[
        int | None, typer.Option(min=1, max=MAX_PARTITIONS, help="How many each topic should have; else any number.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Compare the broker's topics with what the project needs. Exit code 1 when one does not fit."""
    from playhead.cli.connection import connected, settings_of
    from playhead.cli.project import find_project
    from playhead.cli.wanted import MISSING, misfits

    project = find_project()
    settings = settings_of(project)
    specs = _wanted(project, settings.topic_prefix, None)

    async def work() -> dict[str, TopicInfo]:
        async with connected(settings) as broker:
            return {topic.name: topic for topic in await broker.topics()}

    problems = misfits(specs, asyncio.run(work()), prefix=settings.topic_prefix, partitions=partitions)
    if json:
        print_json([{"topic": spec.name, "problems": problems.get(spec.name, [])} for spec in specs])
    else:
        for spec in specs:
            wrong = problems.get(spec.name, [])
            print_data(_line(*("misfit", "red") if wrong else ("fits  ", "green"), spec.name, *wrong))
    if any(MISSING in wrong for wrong in problems.values()):
        say("Create what is missing: playhead topics create", style="cyan")
    if problems:
        raise typer.Exit(NEGATIVE)


def _wanted(project: Project, prefix: str, named: Sequence[str] | None, **how: Any) -> list[TopicSpec]:
    """The topics of the entities named, or of the whole project.

    Raises:
        InvalidInput: a name is no entity, or is Playhead's own.
    """
    from playhead.cli.targets import find_jobs
    from playhead.cli.wanted import entities, wanted_topics
    from playhead.errors import InvalidEventName
    from playhead.events import catalog, check_name

    if named:
        for name in named:
            if "." in name:
                raise InvalidInput(f"{name!r} is no entity: an entity is the part of a name before the first dot.")
            try:
                check_name(f"{name}.created")
            except InvalidEventName as error:
                raise InvalidInput(f"{name!r} is no entity: {error.rule}") from error
        names = sorted(set(named))
    else:
        project.import_catalog()
        jobs = [found.job for found in find_jobs((), project)] if project.consumers else []
        names = entities(catalog(), jobs)
    return wanted_topics(names, prefix=prefix, **how)


def _described(topic: TopicInfo, bounds: dict[Any, tuple[int, int]]) -> dict[str, Any]:
    return {
        "topic": topic.name,
        "partitions": topic.partitions,
        "replication": topic.replication,
        "cleanup": topic.config.get("cleanup.policy", ""),
        "retention": _retention(topic.config.get("retention.ms", "")),
        "maxMessageBytes": topic.max_message_bytes,
        # Offsets, not records: transaction markers take some too.
        "offsets": sum(end - start for (name, _), (start, end) in bounds.items() if name == topic.name),
    }


def _retention(millis: str) -> str:
    if millis == "-1":
        return "for ever"
    return f"{int(millis) / 86_400_000:g} d" if millis.isdecimal() else millis


def _line(word: str, style: str, name: str, *details: str) -> Any:
    from rich.text import Text

    text = Text.assemble((word, style), "  ", (name, "bold"))
    if details:
        text.append("  " + "; ".join(details))
    return text
