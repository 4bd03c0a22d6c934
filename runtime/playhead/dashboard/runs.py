"""Pages of runs: the list, and one with its attempts, its log and what it sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from playhead.dashboard.addresses import span_of
from playhead.dashboard.charts import Bar, timeline
from playhead.dashboard.showing import one_line
from playhead.dashboard.web import Ask, NoSuchPage, Problem, View
from playhead.history.chain import Node, chain_of
from playhead.history.reading import Snapshot, Snapshots, Told
from playhead.history.states import RUN_STATES
from playhead.ids import task_of
from playhead.job import Job
from playhead.timer import read_moment

PAGE_RUNS = 50
SENT_SHOWN = 50
SHOWN_STATES = ("succeeded", "failed", "retrying")
FILTERS = ("state", "job", "event_id")
_OWN_FIELDS = frozenset({"at", "level", "event", "exception"})
_TIME_OF_DAY = slice(11, 23)


class Attempt(NamedTuple):
    """One try of a run."""

    number: int
    state: str
    began_ms: float
    duration_ms: float
    due_ms: int | None
    bar: Bar


class Line(NamedTuple):
    """One line of a run's log."""

    attempt: int
    at: str
    level: str
    text: str
    extra: str


class RunPages:
    """The pages."""

    def __init__(self, history: Snapshots, jobs: Sequence[Job]) -> None:
        self._history = history
        self._job_ids = sorted(job.id for job in jobs)

    def index(self, ask: Ask) -> View:
        """Runs, the newest first."""
        query, span = ask.query, span_of(ask.query, ask.now_ms, "24h")
        state = query.choice("state", RUN_STATES)
        with self._history.snapshot() as now:
            page = now.runs(
                state=state,
                job_id=query.value("job"),
                event_id=query.value("event_id"),
                since_ms=span.since_ms,
                until_ms=span.until_ms,
                cursor=query.value("cursor"),
                limit=PAGE_RUNS,
            )
        filtered = any(query.value(name) for name in FILTERS)
        shown = {"span": span, "runs": page.items, "next": page.next, "filtered": filtered}
        return View("runs.html", {**shown, "states": SHOWN_STATES, "jobs": self._job_ids})

    def one(self, ask: Ask) -> View:
        """One run."""
        run_id = ask.path["run_id"]
        with self._history.snapshot() as now:
            run = now.run(run_id)
            if run is None:
                raise NoSuchPage(f"history has no run {run_id[:100]!r}.")
            told = now.told(run_id)
            event = now.event(run.event_id)
            last: Mapping[str, Any] = told[-1].body if told else {}
            sent = _sent(now, last.get("sent"))
            chain, letters = chain_of(now, run.event_id), now.letters_of(run_id)
        attempts, whole_ms = _attempts(told)
        facts = {
            "run": run,
            "attempts": attempts,
            "whole_ms": whole_ms,
            "error": Problem.of(last.get("error")),
            "output": last.get("output"),
            "logs": list(_lines(told)),
            "event": event,
            "waited_ms": None if event is None else max(0, run.began_ms - event.at_ms),
            "task": _task(run_id),
            "sent": sent,
            "letters": letters,
            "chain": [chain.root],
            "chain_cut": chain.is_cut,
        }
        return View("run.html", facts)


def _sent(now: Snapshot, ids: object) -> list[Node]:
    """The events that a run sent; those that are not in history are told by their ids."""
    found = []
    for id_ in (ids if isinstance(ids, list) else ())[:SENT_SHOWN]:
        if isinstance(id_, str):
            event = now.event(id_)
            found.append(Node("event", id_) if event is None else Node("event", id_, event.name, at_ms=event.at_ms))
    return found


def _number(told: Told, name: str) -> float:
    value = told.body.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def _task(run_id: str) -> str:
    try:
        return str(task_of(run_id))
    except ValueError:
        return "?"


def _attempts(told: Sequence[Told]) -> tuple[list[Attempt], float]:
    known = [
        (
            _number(one, "attempt"),
            float(read_moment(one.body.get("startedAt")) or one.at_ms),
            _number(one, "durationMs"),
            one.state,
        )
        for one in told
    ]
    due = [read_moment(one.body.get("dueAt")) for one in told]
    bars, whole_ms = timeline([(int(number), began, took, state) for number, began, took, state in known])
    return [
        Attempt(int(number), state, began, took, due_ms, bar)
        for (number, began, took, state), due_ms, bar in zip(known, due, bars, strict=True)
    ], whole_ms


def _lines(told: Sequence[Told]) -> Iterator[Line]:
    for one in told:
        logs = one.body.get("logs")
        for line in logs if isinstance(logs, list) else ():
            if isinstance(line, dict):
                extra = {name: value for name, value in line.items() if name not in _OWN_FIELDS}
                text = str(line.get("event", ""))
                if line.get("exception"):
                    text += f"\n{line['exception']}"
                words = " ".join(
                    f"{name}={value if isinstance(value, str) else one_line(value)}" for name, value in extra.items()
                )
                at, level = str(line.get("at", ""))[_TIME_OF_DAY], str(line.get("level", ""))
                yield Line(int(_number(one, "attempt")), at, level, text, words)
