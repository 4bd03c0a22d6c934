"""`playhead timers`: what is to be sent later, and the schedules of jobs that run by the clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from playhead.cli import asking
from playhead.cli.names import complete_event, complete_scheduled_job
from playhead.cli.output import AsJson, print_json, print_table, say
from playhead.cli.send import delays_as_options, read_delay
from playhead.errors import TooLate

if TYPE_CHECKING:
    from playhead.broker.contract import Broker
    from playhead.config import Settings
    from playhead.timer import Timer
    from playhead.timers.listing import PendingTimers, Position

app = typer.Typer(name="timers", help="Show what is to be sent later, cancel it, or move it.", no_args_is_help=True)

TimerId = Annotated[str, typer.Argument(help="The id that the event was sent with, or was given.")]


def _settings() -> Settings:
    from playhead.cli.connection import settings_of
    from playhead.cli.project import find_project

    return settings_of(find_project())


@asynccontextmanager
async def _pending() -> AsyncIterator[tuple[Broker, str, PendingTimers]]:
    """The broker, the prefix of the topics, and what is pending."""
    from playhead.cli.connection import connected, settings_of
    from playhead.cli.project import find_project
    from playhead.cli.stores import pending_timers

    project = find_project()
    settings = settings_of(project)
    async with connected(settings) as broker, pending_timers(project, settings.topic_prefix, broker) as pending:
        yield broker, settings.topic_prefix, pending


def _row(timer: Timer) -> dict[str, Any]:
    from playhead.serde import PARTITION_KEY, rfc3339

    key = timer.header(PARTITION_KEY) or b""
    return {
        "id": timer.id,
        "due_at": rfc3339(timer.due_ms),
        "event": timer.name,
        "key": key.decode(errors="replace"),
        "schedule": timer.schedule or None,
    }


def _print_rows(columns: list[str], rows: list[dict[str, Any]]) -> None:
    print_table(
        [name.replace("_", " ") for name in columns], [[str(row[name] or "-") for name in columns] for row in rows]
    )


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, help="At most so many, those that are due first.")] = 100,
    event: Annotated[str, typer.Option(help="Only events of this name.", autocompletion=complete_event)] = "",
    json: AsJson = False,
) -> None:
    """Show what is pending, by due time."""

    async def read() -> tuple[list[dict[str, Any]], bool]:
        from playhead.timers.listing import PAGE_TIMERS_MAX, START

        rows: list[dict[str, Any]] = []
        async with _pending() as (_, _, pending):
            after: Position | None = START
            while after is not None and len(rows) < limit:
                page = await pending.page(after, min(limit - len(rows), PAGE_TIMERS_MAX), name=event)
                rows += map(_row, page.timers)
                after = page.after
        return rows, after is not None

    rows, more = asyncio.run(read())
    if json:
        print_json(rows)
        return
    _print_rows(["due_at", "event", "id", "key"], rows)
    if more:
        say(f"There are more; --limit {limit * 10} shows them.")


@app.command()
def show(timer_id: TimerId, json: AsJson = False) -> None:
    """Show one timer, with its payload."""

    async def read() -> dict[str, Any] | None:
        async with _pending() as (_, _, pending):
            timer = await pending.find(timer_id)
            return None if timer is None else {**_row(timer), "payload": timer.payload()}

    row = asyncio.run(read())
    if row is None:
        raise TooLate(timer_id)
    if json:
        print_json(row)
    else:
        payload = row.pop("payload")
        asking.print_facts({name.replace("_", " "): value for name, value in row.items()})
        asking.print_block("PAYLOAD", asking.pretty(payload))


@app.command()
def cancel(timer_id: TimerId, json: AsJson = False) -> None:
    """Cancel a timer: either it never fires, or this fails because it has."""

    async def ask() -> bool:
        from playhead import Client
        from playhead.cli.connection import connected

        settings = _settings()
        async with connected(settings) as broker:
            return await Client("cli", settings=settings, broker=broker).cancel_event(timer_id)

    if not asyncio.run(ask()):
        raise TooLate(timer_id)
    if json:
        print_json({"id": timer_id, "outcome": "canceled"})
    else:
        say(f"canceled {timer_id}")


@app.command()
def move(
    timer_id: TimerId,
    to: Annotated[str | None, typer.Option(help="ISO 8601 with its zone, such as 2027-03-01T09:00:00+01:00.")] = None,
    delay: Annotated[str | None, typer.Option(help="So much later than now: 90s, 5m, 24h, 7d, 2w.")] = None,
    json: AsJson = False,
) -> None:
    """Send an event at another moment; it gets a new id."""

    async def ask() -> dict[str, Any]:
        from playhead import Client
        from playhead.cli.connection import connected
        from playhead.serde import rfc3339_of

        settings = _settings()
        async with connected(settings) as broker:
            client = Client("cli", settings=settings, broker=broker)
            new_id, due_at = await client.reschedule_event(timer_id, delay=later, at=to)
            return {"id": new_id, "outcome": "rescheduled", "due_at": rfc3339_of(due_at)}

    with delays_as_options("--to"):
        later = None if delay is None else read_delay(delay)
        moved = asyncio.run(ask())
    if json:
        print_json(moved)
    else:
        say(f"moved to {moved['due_at']}, as {moved['id']}")


@app.command()
def schedules(json: AsJson = False) -> None:
    """Show the jobs that run by the clock, and when each is due next."""

    async def read() -> list[dict[str, Any]]:
        from playhead.timers.schedules import listed

        async with _pending() as (_, _, pending):
            return [
                {
                    "job": row["job"],
                    "schedule": row["schedule"],
                    "catch_up": row["catchUp"],
                    "next_at": row["next"][0] if row["armed"] else None,
                }
                for row in await listed(pending, _now_ms(), 1)
            ]

    rows = asyncio.run(read())
    if json:
        print_json(rows)
        return
    _print_rows(["job", "schedule", "catch_up", "next_at"], rows)


JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.", autocompletion=complete_scheduled_job)]


@app.command()
def run(job_id: JobId, json: AsJson = False) -> None:
    """Run a job that runs by the clock now, beside its schedule."""

    async def send() -> dict[str, Any]:
        from playhead.timers.schedules import run_now

        async with _pending() as (broker, prefix, pending):
            return await run_now(broker, prefix, pending, job_id, _now_ms())

    sent = asyncio.run(send())
    if json:
        print_json(sent)
    else:
        say(f"sent {sent['event']}  {sent['id']}")


@app.command()
def unschedule(job_id: JobId, json: AsJson = False) -> None:
    """Take a job's schedule back: it is due no more, also where the job is gone from the code.

    A worker that has the job declares its schedule again when it starts.
    """

    async def take() -> None:
        from playhead.timers.schedules import take_back

        async with _pending() as (broker, prefix, pending):
            await take_back(broker, prefix, pending, job_id, _now_ms())

    asyncio.run(take())
    if json:
        print_json({"job": job_id, "outcome": "taken back"})
    else:
        say(f"{job_id} is due no more, until a worker that has it starts again")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@app.command()
def reset() -> None:
    """Let the scheduler begin again, where its checkpoint was lost. No scheduler may run.

    What is pending is in topic `delay` itself: nothing fires twice, and nothing is lost.
    """

    async def begin_again() -> None:
        from playhead.broker.contract import Mark, Partition
        from playhead.cli.connection import connected
        from playhead.cli.jobs import reset_metadata
        from playhead.scheduler.work import GROUP
        from playhead.topics import DELAY

        settings = _settings()
        async with connected(settings) as broker:
            topic = await broker.topic(settings.topic_prefix + DELAY)
            partitions = [Partition(topic.name, number) for number in range(topic.partitions)]
            group = settings.topic_prefix + GROUP
            known = (await broker.describe_group(group)).checkpoints
            starts = {p: start for p, (start, _) in (await broker.bounds(partitions)).items()}
            await broker.reset_group(
                group, {p: Mark(start, reset_metadata(known.get(p), start)) for p, start in starts.items()}
            )

    asyncio.run(begin_again())
    say("The scheduler begins again.")
