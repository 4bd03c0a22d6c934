"""`playhead tail`: events as they come, without a consumer group."""

from __future__ import annotations

from contextlib import aclosing
from datetime import datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated

import typer

from playhead.cli.names import complete_shown_event
from playhead.cli.output import AsJson, print_data, print_json_line
from playhead.errors import InvalidInput

if TYPE_CHECKING:
    from playhead.broker.contract import Broker
    from playhead.cli.moments import Moment
    from playhead.config import Settings
    from playhead.events import Event
    from playhead.records import Partition


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
        ranges = await _ranges(broker, settings.topic_prefix, pattern, moment)
        shown = 0
        async with aclosing(follow(broker, ranges, live=live)) as records:
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


async def _ranges(broker: Broker, prefix: str, pattern: str, moment: Moment) -> dict[Partition, tuple[int, int]]:
    """From where to where the past goes, in each partition whose topic may have matching events."""
    from playhead.cli.moments import offsets_of
    from playhead.records import Partition
    from playhead.topics import DELAY

    entity_pattern = pattern.partition(".")[0]
    topics = [topic for topic in await broker.topics() if topic.name.startswith(prefix)]
    # What is in topic `delay` is no event yet: `playhead timers` shows it.
    entities = {name: topic for topic in topics if (name := topic.name.removeprefix(prefix)) != DELAY}
    shown = [topic for name, topic in entities.items() if _is_shown(name, entity_pattern)]
    if not shown:
        raise InvalidInput(
            f"no topic matches {pattern!r}.",
            remedy=f"There are: {', '.join(sorted(name for name in entities if '.' not in name)) or 'none'}.",
        )
    partitions = [Partition(topic.name, number) for topic in shown for number in range(topic.partitions)]
    bounds = await broker.bounds(partitions)
    starts = await offsets_of(broker, partitions, moment, bounds=bounds)
    return {partition: (starts[partition], bounds[partition][1]) for partition in partitions}


def _is_shown(entity: str, entity_pattern: str) -> bool:
    from playhead.topics import RESERVED_ENTITIES

    if "." in entity:
        return False  # an inbox, a journal, or another installation's
    if entity in RESERVED_ENTITIES:
        return entity == entity_pattern
    return fnmatchcase(entity, entity_pattern)


def _matches(event: Event, pattern: str) -> bool:
    return pattern == "*" or fnmatchcase(event.name, pattern)
