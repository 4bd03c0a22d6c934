"""`playhead timers`: what is to be sent later, and the schedules of jobs that run by the clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from playhead.cli import asking
from playhead.cli.asking import Cursor, cell
from playhead.cli.names import complete_event, complete_scheduled_job
from playhead.cli.output import AsJson, print_json, say
from playhead.cli.send import delays_as_options, read_delay
from playhead.errors import TooLate

if TYPE_CHECKING:
    from rich.text import Text

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


@app.command("list")
def list_(
    event: Annotated[str, typer.Option(help="Only events of this name.", autocompletion=complete_event)] = "",
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many.")] = 100,
    cursor: Cursor = "",
    json: AsJson = False,
) -> None:
    """Show what is pending, by due time."""

    async def read() -> dict[str, Any]:
        from playhead.timers.listing import START, read_cursor, shown

        after: Position | None = read_cursor(cursor) if cursor else START
        timers: list[Timer] = []
        async with _pending() as (_, _, pending):
            while after is not None and len(timers) < limit:  # where names are wanted, a page may hold few
                page = await pending.page(after, limit - len(timers), name=event)
                timers += page.timers
                after = page.after
        return {"items": [shown(timer) for timer in timers], "next": None if after is None else after.cursor()}

    asking.print_page(asyncio.run(read()), ["due at", "event", "id", "key"], _row, as_json=json)


def _row(timer: Mapping[str, Any]) -> list[Text]:
    return [cell(timer["dueAt"]), cell(timer["event"], "cyan"), cell(timer["id"]), cell(timer["key"])]


@app.command()
def show(timer_id: TimerId, json: AsJson = False) -> None:
    """Show one timer, with its payload."""

    async def read() -> dict[str, Any] | None:
        from playhead.timers.listing import shown

        async with _pending() as (_, _, pending):
            timer = await pending.find(timer_id)
            return None if timer is None else {**shown(timer), "payload": timer.payload()}

    timer = asyncio.run(read())
    if timer is None:
        raise TooLate(timer_id)
    if json:
        print_json(timer)
        return
    names = {"id": "id", "event": "event", "key": "key", "dueAt": "due at", "schedule": "schedule"}
    asking.print_facts({told: timer[name] for name, told in names.items()})
    asking.print_block("PAYLOAD", asking.pretty(timer["payload"]))


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
            return {"id": new_id, "outcome": "rescheduled", "dueAt": rfc3339_of(due_at)}

    with delays_as_options("--to"):
        later = None if delay is None else read_delay(delay)
        moved = asyncio.run(ask())
    if json:
        print_json(moved)
    else:
        say(f"moved to {moved['dueAt']}, as {moved['id']}")


@app.command()
def schedules(json: AsJson = False) -> None:
    """Show the jobs that run by the clock, and when each is due next."""

    async def read() -> list[dict[str, Any]]:
        from playhead.timers.schedules import listed

        async with _pending() as (_, _, pending):
            return await listed(pending, _now_ms())

    columns = ["job", "schedule", "catch up", "next at"]
    asking.print_page({"items": asyncio.run(read()), "next": None}, columns, _schedule_row, as_json=json)


def _schedule_row(schedule: Mapping[str, Any]) -> list[Text]:
    when, next_at = schedule["schedule"], schedule["next"][0] if schedule["armed"] else None
    if schedule["jitterMs"]:
        when += f", or up to {schedule['jitterMs'] / 1000:g} s later"
    return [cell(schedule["job"], "bold"), cell(when), cell(schedule["catchUp"]), cell(next_at)]


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
