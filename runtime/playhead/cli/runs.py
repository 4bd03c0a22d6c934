"""`playhead runs` and `playhead stats`: what jobs did, and what it comes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from playhead.cli import asking
from playhead.cli.asking import Cursor, Database, Limit, Since, Until, cell, state_cell, time_cell, took_cell
from playhead.cli.output import AsJson, print_json, print_table
from playhead.errors import InvalidInput, NotInHistory
from playhead.history.states import RUN_STATES

if TYPE_CHECKING:
    from rich.text import Text

    from playhead.history.reading import Snapshot

app = typer.Typer(name="runs", help="Show what jobs did, from the history.", no_args_is_help=True)

_COLUMNS = ("began", "job", "state", "took#", "id")
AsOf = Annotated[str, typer.Option(help="As it was then: -10m, or 2026-11-24T08:00Z.")]
JobId = Annotated[str, typer.Option(help="Only of this job.")]


@app.command("list")
def list_(
    job: JobId = "",
    state: Annotated[str, typer.Option(help=f"Only in this state: {', '.join(RUN_STATES)}.")] = "",
    event: Annotated[str, typer.Option(help="Only on the event of this id.")] = "",
    since: Since = "",
    until: Until = "",
    limit: Limit = 50,
    cursor: Cursor = "",
    database: Database = None,
    json: AsJson = False,
) -> None:
    """Show runs, the latest beginning first. A run is there from the end of its first attempt on."""
    asking.one_of("state", state, RUN_STATES)
    since_ms, until_ms = asking.moment_ms(since), asking.moment_ms(until)

    def runs(now: Snapshot) -> dict[str, Any]:
        from playhead.history import wire

        page = now.runs(
            job_id=job,
            state=state,
            event_id=event,
            since_ms=since_ms,
            until_ms=until_ms,
            cursor=cursor or None,
            limit=limit,
        )
        return {"items": [wire.run_item(run) for run in page.items], "next": page.next}

    asking.print_page(asking.ask(runs, database), _COLUMNS, _row, as_json=json)


def print_runs(runs: Sequence[Mapping[str, Any]]) -> None:
    """A table of runs."""
    print_table(_COLUMNS, [_row(run) for run in runs])


def _row(run: Mapping[str, Any]) -> list[Text]:
    began, took = time_cell(run["startedAt"]), took_cell(run["durationMs"])
    return [began, cell(run["job"], "bold"), state_cell(run["state"]), took, cell(run["id"])]


@app.command()
def show(
    run_id: Annotated[str, typer.Argument(metavar="ID", help="The run's id.")],
    as_of: AsOf = "",
    database: Database = None,
    json: AsJson = False,
) -> None:
    """Show one run: its attempts with their log lines, what it was given, what came of it and what it sent."""
    as_of_ms = asking.moment_ms(as_of)

    def shown(now: Snapshot) -> dict[str, Any]:
        from playhead.history import wire

        run = now.run(run_id)
        if run is None:
            raise NotInHistory("run", run_id)
        return wire.run_shown(now, run, as_of_ms)

    run = asking.ask(shown, database)
    if json:
        print_json(run)
        return
    asking.print_facts(
        {
            "id": run["id"],
            "job": f"{run['job']} {run['version']}",
            "state": state_cell(run["state"]),
            "on": f"{run['eventName']} {run['eventId']}",
            "began": run["startedAt"],
            "ended": run["endedAt"],
            "replays": run["replayOf"],
            "dead letters": ", ".join(run["deadLetters"]),
            "sent": ", ".join(f"{one['name'] or '?'} {one['id']}" for one in run["sent"]),
        }
    )
    asking.print_value("INPUT", run, "input")
    for attempt in run["attempts"]:
        _print_attempt(attempt)
    if run["state"] == "succeeded":
        asking.print_block("OUTPUT", asking.pretty(run["output"]))


def _print_attempt(attempt: Mapping[str, Any]) -> None:
    from playhead.cli.output import print_data

    words = f"ATTEMPT {attempt['attempt']}  {attempt['state']}  at {attempt['toldAt']}"
    if attempt["dueAt"]:
        words += f", again at {attempt['dueAt']}"
    asking.print_block(words, "\n".join(asking.pretty_line(line) for line in attempt["logs"]))
    error = attempt["error"]
    if isinstance(error, dict):
        print_data(cell(f"{error.get('type')}: {error.get('message')}", "red"))
        if trace := error.get("traceback"):
            asking.print_block("TRACEBACK", str(trace))


def stats(
    job: JobId = "",
    since: Annotated[str, typer.Option(help="From then on: -24h, or 2026-11-24T08:00Z; else the last hour.")] = "",
    until: Annotated[str, typer.Option(help="Until then; else until now.")] = "",
    step: Annotated[str, typer.Option(help="By time, in steps of so much: 1m, 1h, 1d; else by job alone.")] = "",
    as_of: Annotated[str, typer.Option(help="How many runs there were then, by state.")] = "",
    database: Database = None,
    json: AsJson = False,
) -> None:
    """Show success and failure, throughput and durations by job, and by time."""
    as_of_ms = asking.moment_ms(as_of)
    if as_of_ms is not None:
        if beside := [f"--{name}" for name, text in (("since", since), ("until", until), ("step", step)) if text]:
            raise InvalidInput(f"{', '.join(beside)}: not together with --as-of.", remedy="Ask one after the other.")
        _print_counts(as_of_ms, job, database, as_json=json)
        return
    begin, end = ((asking.moment_ms(text) or 0) / 1000 for text in (since or "-1h", until or "now"))
    seconds = _step_seconds(step) if step else _whole_step(end - begin)

    def sums(now: Snapshot) -> dict[str, Any]:
        from playhead.history import wire
        from playhead.history.statistics import Span

        return wire.stats_shown(now, Span.of(begin, end, seconds), job)

    found = asking.ask(sums, database)
    if json:
        print_json(found)
        return
    columns = ["job", "succeeded#", "failed#", "retries#", "success#", "per s#", "p50#", "p95#", "p99#"]
    if step:
        print_table(["at", *columns], [[time_cell(one["at"]), *_sums_row(one)] for one in found["items"]])
    else:
        rows = found["jobs"] if job else [*found["jobs"], {"job": "all", **found["total"]}]
        print_table(columns, [_sums_row(one) for one in rows])


def _print_counts(as_of_ms: int, job: str, database: str | None, *, as_json: bool) -> None:
    def counts(now: Snapshot) -> dict[str, Any]:
        from playhead.history import wire

        return wire.counts_shown(now, as_of_ms, job)

    found = asking.ask(counts, database)
    if as_json:
        print_json(found)
        return
    rows = [[cell(one["job"], "bold"), *(cell(f"{one[state]:,}") for state in RUN_STATES)] for one in found["items"]]
    print_table(["job", *(f"{state}#" for state in RUN_STATES)], rows)


def _sums_row(one: Mapping[str, Any]) -> list[Text]:
    rate = None if one["successRate"] is None else f"{one['successRate']:.2%}"
    counts = [cell(f"{one[name]:,}") for name in ("succeeded", "failed", "retries")]
    times = [took_cell(one[name]) for name in ("p50Ms", "p95Ms", "p99Ms")]
    return [cell(one["job"], "bold"), *counts, cell(rate), cell(f"{one['perSecond']:.2f}"), *times]


def _step_seconds(text: str) -> int:
    units = {"m": 60, "h": 3_600, "d": 86_400}
    if not (text[:-1].isascii() and text[:-1].isdecimal() and len(text) < 8 and text[-1] in units and int(text[:-1])):
        raise InvalidInput(f"--step {text!r} is none.", remedy="Give it as in 5m, 1h, 1d.")
    return int(text[:-1]) * units[text[-1]]


def _whole_step(seconds: float) -> int:
    """The shortest step with which the span has not too many: its sums alone are wanted."""
    return next((step for step in (60, 3_600) if seconds <= 900 * step), 86_400)
