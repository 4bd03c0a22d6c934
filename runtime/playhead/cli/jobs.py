"""`playhead jobs`: which jobs a project has, how far they are, and where a job is to go on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from playhead.cli.output import AsJson, print_json, print_table, say
from playhead.errors import InvalidInput, Retriable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from playhead.broker.contract import Broker, Mark
    from playhead.cli.moments import Moment
    from playhead.cli.targets import FoundJob
    from playhead.config import Settings
    from playhead.records import Partition

app = typer.Typer(name="jobs", help="Show the project's jobs and how far they are.", invoke_without_command=True)

OFFLINE_PATIENCE_SECONDS = 2.0
"""How long the broker may take to answer a question that can be left out."""


@app.callback()
def jobs(
    ctx: typer.Context,
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the broker.")] = False,
    json: AsJson = False,
) -> None:
    """Show the project's jobs: id, version, trigger and file, and from the broker its workers and lag."""
    if ctx.invoked_subcommand is not None:
        return
    from playhead.cli.connection import settings_of
    from playhead.cli.project import find_project
    from playhead.cli.targets import find_jobs

    project = find_project()
    project.import_catalog()
    found = find_jobs((), project)
    states = {} if offline else _states(settings_of(project), found)
    rows = [
        {
            "id": item.job.id,
            "name": item.job.name,
            "version": item.job.version,
            "trigger": item.job.trigger.name,
            "file": project.relative(item.file),
            "line": item.line,
            **states.get(item.job.id, {}),
        }
        for item in found
    ]
    if json:
        print_json(rows)
        return
    columns = ["id", "name", "version", "trigger", "file"]
    cells = [[str(row[name]) for name in columns] for row in rows]
    if states:
        columns += ["members#", "lag#"]
        cells = [[*line, f"{row['members']:,}", _lag(row)] for line, row in zip(cells, rows, strict=True)]
    print_table(columns, cells)


@app.command()
def reset(
    job: Annotated[str, typer.Argument(help="The job's id.")],
    to: Annotated[str, typer.Option(help="earliest, now, -10m, or 2026-11-24T08:00Z.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: AsJson = False,
) -> None:
    """Set where a job goes on: what lies before is taken as done, what lies after is worked on (again).

    Only while no worker runs the job. This is the remedy where a checkpoint was lost (PH302).
    """
    from playhead.cli.connection import settings_of
    from playhead.cli.moments import parse_moment
    from playhead.cli.project import find_project
    from playhead.cli.targets import find_jobs

    moment = parse_moment(to, datetime.now().astimezone())
    project = find_project()
    project.import_catalog()
    (found,) = find_jobs((), project, only=[job])
    if not yes:
        typer.confirm(f"Set the checkpoints of job {job!r} to {to}?", abort=True, err=True)
    marks = asyncio.run(_reset(settings_of(project), found, moment))
    rows = [{"topic": p.topic, "partition": p.partition, "offset": mark.offset} for p, mark in sorted(marks.items())]
    if json:
        print_json(rows)
        return
    print_table(("topic", "partition#", "offset#"), ([str(value) for value in row.values()] for row in rows))


def _states(settings: Settings, found: Sequence[FoundJob]) -> dict[str, dict[str, Any]]:
    """Members and lag of each job; empty, with a word on stderr, where no broker answers."""
    patience_seconds = min(settings.send_timeout_seconds, OFFLINE_PATIENCE_SECONDS)
    quick = settings.model_copy(update={"send_timeout_seconds": patience_seconds})
    try:
        return asyncio.run(_ask(quick, found))
    except Retriable as error:
        say(f"No lag: {error.message}", style="yellow")
        return {}


async def _ask(settings: Settings, found: Sequence[FoundJob]) -> dict[str, dict[str, Any]]:
    from playhead.cli.connection import connected
    from playhead.group.lag import group_lag

    async with connected(settings) as broker:
        lags = await asyncio.gather(
            *(
                group_lag(
                    broker, settings.topic_prefix + item.job.id, [settings.topic_prefix + item.job.trigger.entity]
                )
                for item in found
            )
        )
        return {
            item.job.id: {"state": one.state, "members": one.members, "lag": one.lag}
            for item, one in zip(found, lags, strict=True)
        }


async def _partitions(broker: Broker, settings: Settings, found: FoundJob) -> list[Partition]:
    from playhead.errors import UnknownTopic
    from playhead.records import Partition

    name = settings.topic_prefix + found.job.trigger.entity
    try:
        topic = await broker.topic(name)
    except UnknownTopic:
        return []
    return [Partition(name, number) for number in range(topic.partitions)]


async def _reset(settings: Settings, found: FoundJob, moment: Moment) -> dict[Partition, Mark]:
    from playhead.broker.contract import Mark
    from playhead.cli.connection import connected
    from playhead.cli.moments import offsets_of

    group = settings.topic_prefix + found.job.id
    async with connected(settings) as broker:
        await broker.topic(settings.topic_prefix + found.job.trigger.entity)
        partitions = await _partitions(broker, settings, found)
        before = await broker.describe_group(group)
        if before.members:
            raise InvalidInput(
                f"job {found.job.id!r} has {len(before.members)} workers.", remedy="Stop them, then reset it."
            )
        offsets = await offsets_of(broker, partitions, moment, bounds=await broker.bounds(partitions))
        marks = {p: Mark(offset, reset_metadata(before.checkpoints.get(p), offset)) for p, offset in offsets.items()}
        await broker.reset_group(group, marks)
        return marks


def reset_metadata(before: Mark | None, offset: int) -> str:
    """The owner of the old checkpoint, so that leases go on growing and a dead owner's writer is freed."""
    from playhead.errors import CheckpointLost
    from playhead.group.checkpoint import decode, encode

    if before is None:
        return ""
    try:
        owner, _ = decode(before.offset, before.metadata)
    except CheckpointLost:  # another program's text
        return ""
    return encode(replace(owner, crashes=0), offset, ())


def _lag(row: Mapping[str, Any]) -> str:
    return "not run yet" if row.get("lag") is None else f"{row['lag']:,}"
