"""`playhead tail`: events as they come, without a consumer group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import aclosing
from datetime import datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated

import typer

from playhead.cli.names import complete_shown_event
from playhead.cli.output import AsJson, print_data, print_json_line, say
from playhead.errors import InvalidInput, Retriable

if TYPE_CHECKING:
    from playhead.broker.contract import Broker, TopicInfo
    from playhead.cli.moments import Moment
    from playhead.config import Settings
    from playhead.events import Event
    from playhead.records import Partition

LOOK_SECONDS = 1.5
"""Between two looks for topics that were made meanwhile."""


def tail(
    pattern: Annotated[
        str,
        typer.Argument(
            help="Names to show, with * and ?: user.created, 'file.*', 'run.*'.", autocompletion=complete_shown_event
        ),
    ] = "*",
    begin: Annotated[str, typer.Option("--from", help="earliest, now, -10m, or 2026-11-24T08:00Z.")] = "now",
    follow: Annotated[bool, typer.Option(help="Go on with what comes, or stop at the end.")] = True,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many events.")] = None,
    json: AsJson = False,
) -> None:
    """Show events: what is there in the order of time, then what comes.

    Without a pattern, all events of all entities; what happens to runs is shown by 'run.*', and what was given up by
    'dead-letter.*'.
    """
    from playhead.cli.connection import run_fast, settings_of
    from playhead.cli.moments import parse_moment
    from playhead.cli.project import find_project

    moment = parse_moment(begin, datetime.now().astimezone())
    pattern = pattern if "." in pattern or "*" in pattern else f"{pattern}.*"
    if pattern != pattern.lower():
        raise InvalidInput(f"no event matches {pattern!r}: names are lower case.", remedy=f"Try {pattern.lower()!r}.")
    run_fast(_tail(settings_of(find_project()), pattern, moment, live=follow, limit=limit, json=json))


async def _tail(settings: Settings, pattern: str, moment: Moment, *, live: bool, limit: int | None, json: bool) -> None:
    from playhead.cli.connection import connected
    from playhead.cli.following import follow
    from playhead.cli.showing import as_json, as_line, read_event

    async with connected(settings) as broker:
        ranges = await _ranges(broker, settings.topic_prefix, pattern, moment, wait=live)
        later = made_later(broker, settings.topic_prefix, pattern, ranges)
        shown = 0
        async with aclosing(follow(broker, ranges, live=live, later=later)) as records:
            async for record in records:
                event = read_event(record)
                if event is None or not _matches(event, pattern):
                    continue
                if json:
                    print_json_line(as_json(event))
                else:
                    print_data(as_line(event, datetime.now().astimezone()), one_line=True)
                shown += 1
                if shown == limit:
                    return


async def _ranges(
    broker: Broker, prefix: str, pattern: str, moment: Moment, *, wait: bool
) -> dict[Partition, tuple[int, int]]:
    """From where to where the past goes, in each partition whose topic may have matching events.

    Raises:
        InvalidInput: there is none, and nobody waits for one.
    """
    from playhead.cli.moments import offsets_of

    topics = await broker.topics()
    partitions = _shown(topics, prefix, pattern)
    if not partitions:
        entities = (topic.name.removeprefix(prefix) for topic in topics if topic.name.startswith(prefix))
        there = f"There are: {', '.join(sorted(name for name in entities if _has_events(name))) or 'none'}."
        if not wait:
            raise InvalidInput(f"no topic matches {pattern!r}.", remedy=there)
        say(f"No topic matches {pattern!r} yet; waiting for one. {there}", style="yellow")
    bounds = await broker.bounds(partitions)
    starts = await offsets_of(broker, partitions, moment, bounds=bounds)
    return {partition: (starts[partition], bounds[partition][1]) for partition in partitions}


async def _until_next_look() -> None:
    await asyncio.sleep(LOOK_SECONDS)


async def made_later(
    broker: Broker,
    prefix: str,
    pattern: str,
    known: Iterable[Partition],
    pause: Callable[[], Awaitable[None]] = _until_next_look,
) -> AsyncIterator[Partition]:
    """Partitions that are made meanwhile, of topics that may have matching events.

    Each is told at the second look that sees it: by then every broker knows it, and reading finds its leader.

    Args:
        known: those that are there already.
        pause: between two looks.
    """
    told = set(known)
    seen: set[Partition] = set()
    while True:
        await pause()
        try:
            found = set(_shown(await broker.topics(), prefix, pattern))
        except Retriable:
            continue  # whoever reads waits for the broker too, and says when it is too long
        for partition in sorted((found & seen) - told):
            told.add(partition)
            yield partition
        seen = found


def _shown(topics: Iterable[TopicInfo], prefix: str, pattern: str) -> list[Partition]:
    """The partitions of topics that may have matching events."""
    from playhead.records import Partition

    entity = pattern.partition(".")[0]
    shown = [t for t in topics if t.name.startswith(prefix) and _is_shown(t.name.removeprefix(prefix), entity)]
    return [Partition(topic.name, number) for topic in shown for number in range(topic.partitions)]


def _has_events(entity: str) -> bool:
    """Not so an inbox, a journal, another installation's, and `delay`: that has timers (`playhead timers`)."""
    from playhead.topics import DELAY

    return "." not in entity and entity != DELAY


def _is_shown(entity: str, entity_pattern: str) -> bool:
    from playhead.topics import RESERVED_ENTITIES

    if not _has_events(entity):
        return False
    if entity in RESERVED_ENTITIES:
        return entity == entity_pattern
    return fnmatchcase(entity, entity_pattern)


def _matches(event: Event, pattern: str) -> bool:
    return pattern == "*" or fnmatchcase(event.name, pattern)
