"""A history that is always the same: records as the engine writes them, projected and written into a store.

The shop of the example catalog, for a day up to NOW: sign-ups, uploads (a chain of two jobs), payments, and a job that
fails. Everything follows from a seed; only the amount can be chosen.
"""

from __future__ import annotations

import random
from base64 import b64encode
from collections.abc import Iterator
from typing import Any, NamedTuple
from uuid import UUID

import orjson
import sqlalchemy as sa

from playhead.history.projection import Rows, project
from playhead.history.schema import EVENT, LETTER, RUN
from playhead.history.store import HistoryStore, Span
from playhead.ids import run_id
from playhead.records import Partition
from playhead.serde import rfc3339

NOW_MS = 1_800_000_000_000
"""2027-01-15 08:00 UTC."""
DAY_MS = 86_400_000
PARTITIONS = 3
SCRIPT = "<script>document.title='owned'</script>"
IMAGE = '<img src=x onerror="document.title=1">'
TRACE = """Traceback (most recent call last):
  File "/srv/consumers/receipt.py", line 21, in receipt
    await mail.send(payload.email, "receipt", amount=payload.amount)
  File "/srv/consumers/mail.py", line 33, in send
    raise MailRefused(f"the mail service answered {answer.status}")
consumers.mail.MailRefused: the mail service answered 503
"""


class Stored(NamedTuple):
    """A record as it is read back."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


class Scene:
    """Fills a store, record by record, in the order of time.

    Args:
        prefix: of the ids, so that two scenes in one store differ.
    """

    def __init__(self, store: HistoryStore, seed: int = 7) -> None:
        self.store = store
        self.random = random.Random(seed)
        self._next: dict[Partition, int] = {}
        self._records: list[Stored] = []
        self.ids: dict[str, str] = {}
        """What tests look for, by a name."""

    # ── records ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def id_at(self, at_ms: int) -> str:
        """A UUIDv7 of this moment."""
        tail = self.random.getrandbits(76)
        number = (at_ms << 80) | (0x7 << 76) | ((tail >> 64) << 64) | (0b10 << 62) | (tail & ((1 << 62) - 1))
        return str(UUID(int=number))

    def append(self, topic: str, at_ms: int, name: str, id_: str, body: Any, **more: Any) -> str:
        """A record at the end of a partition; returns the event's id."""
        key = more.pop("key", None) or id_
        partition = Partition(topic, sum(key.encode()) % PARTITIONS)
        offset = self._next.get(partition, 0)
        self._next[partition] = offset + 1
        headers = [
            ("ce_id", id_.encode()),
            ("ce_type", name.encode()),
            ("ce_source", more.pop("source", b"/playhead/acme")),
        ]
        headers += [
            ("ce_specversion", b"1.0"),
            ("ce_time", rfc3339(at_ms).encode()),
            ("content-type", b"application/json"),
        ]
        headers += [(header, value.encode()) for header, value in more.items() if value]
        value = body if isinstance(body, bytes) else orjson.dumps(body)
        self._records.append(Stored(*partition, offset, at_ms, key.encode(), value, headers))
        return id_

    def event(
        self,
        at_ms: int,
        name: str,
        payload: Any,
        *,
        key: str | None = None,
        cause: str = "",
        run: str = "",
        correlation: str = "",
        id_: str = "",
    ) -> str:
        """An event of an entity."""
        headers = {"ce_causationid": cause, "ce_correlationid": correlation, "ce_runid": run}
        return self.append(name.partition(".")[0], at_ms, name, id_ or self.id_at(at_ms), payload, key=key, **headers)

    def run(
        self,
        at_ms: int,
        job: str,
        event_id: str,
        event_name: str,
        outcome: str = "succeeded",
        *,
        took_ms: float = 12.0,
        attempts: int = 1,
        output: Any = None,
        sent: Any = (),
        logs: Any = (),
        message: str = "the mail service answered 503",
        error_type: str = "consumers.mail.MailRefused",
        trace: str = TRACE,
    ) -> str:
        """A run, told attempt by attempt; returns its id."""
        run = run_id(job, event_id, 0)
        error = {"type": error_type, "message": message, "traceback": trace}
        for attempt in range(1, attempts + 1):
            last = attempt == attempts
            told: dict[str, Any] = {
                "runId": run,
                "jobId": job,
                "jobVersion": "1.0.0",
                "eventId": event_id,
                "eventName": event_name,
                "task": 0,
                "attempt": attempt,
                "lease": 1,
                "startedAt": rfc3339(at_ms),
                "durationMs": took_ms,
                "logs": list(logs),
            }
            at_ms += int(took_ms)
            state = outcome if last else "retrying"
            if state == "succeeded":
                told |= {"output": output, "sent": list(sent)}
            else:
                told["error"] = error
            if state == "retrying":
                told["dueAt"] = rfc3339(at_ms + 1000 * 2**attempt)
            self.append("run", at_ms, f"run.{state}", self.id_at(at_ms), told, key=run, ce_causationid=event_id)
            if not last:
                at_ms += 1000 * 2**attempt
        if outcome == "failed":
            self.ids["letter"] = self.letter(at_ms, job, run, event_id, event_name, attempts, error)
        return run

    def letter(
        self,
        at_ms: int,
        job: str,
        run: str,
        event_id: str,
        event_name: str,
        attempts: int,
        error: Any,
        value: bytes = b'{"message": "hello"}',
    ) -> str:
        """A dead letter; returns its id."""
        wrapped = [("ce_id", event_id), ("ce_type", event_name), ("ce_source", "/playhead/acme")]
        told = {
            "jobId": job,
            "reason": f"attempt {attempts} of {attempts} failed: {error['type']}: {error['message']}",
            "topic": event_name.partition(".")[0],
            "partition": 0,
            "offset": 1,
            "timestampMs": at_ms,
            "key": b64encode(b"42").decode(),
            "value": b64encode(value).decode(),
            "headers": [(name, b64encode(text.encode()).decode()) for name, text in wrapped],
            "runId": run,
            "attempts": attempts,
            "error": error,
        }
        return self.append("dead-letter", at_ms, "dead-letter.created", self.id_at(at_ms), told, key=run or event_id)

    def find(self) -> None:
        """Take the ids from a store that was filled before."""
        with self.store.reading() as db:
            (self.ids["chain_event"],) = db.execute(
                sa.select(EVENT.c.id).where(EVENT.c.key == "f-100000000").limit(1)
            ).one()
            for name, job in (("chain_run", "process-upload"), ("tried_run", "try-out")):
                query = sa.select(RUN.c.id).where(RUN.c.job_id == job).order_by(RUN.c.began_ms.desc()).limit(1)
                (self.ids[name],) = db.execute(query).one()
            letters = sa.select(LETTER.c.id).where(LETTER.c.job_id == "try-out").limit(1)
            (self.ids["tried_letter"],) = db.execute(letters).one()

    def write(self) -> None:
        """Project and write what was appended since the last time."""
        rows, spans = Rows(), {}
        by_partition: dict[Partition, list[Stored]] = {}
        for record in self._records:
            by_partition.setdefault(Partition(record.topic, record.partition), []).append(record)
        self.store.begin(dict.fromkeys(by_partition, 0))
        for partition, records in by_partition.items():
            project(records, partition.topic, self.store.base(partition), rows)
            spans[partition] = Span(records[0].offset, records[-1].offset + 1)
        self._records.clear()
        self.store.write(rows, spans)

    # ── what happens ─────────────────────────────────────────────────────────────────────────────────────────────────

    def sign_up(self, at_ms: int, number: int) -> None:
        rng = self.random
        user = str(100_000 + number)
        event = self.event(at_ms, "user.created", {"email": f"user{number}@example.com", "userId": user}, key=user)
        self.run(
            at_ms + 4, "crm-sync", event, "user.created", took_ms=rng.lognormvariate(3.4, 0.5), output={"synced": True}
        )
        logs = [log_line(at_ms + 6, "info", "sending welcome mail", template="welcome")]
        attempts = 2 if rng.random() < 0.06 else 1
        run = self.run(
            at_ms + 4,
            "welcome-email",
            event,
            "user.created",
            took_ms=rng.lognormvariate(4.2, 0.6),
            attempts=attempts,
            logs=logs,
            output={"messageId": f"m-{number}"},
        )
        self.event(
            at_ms + 90,
            "email.sent",
            {"to": f"user{number}@example.com", "subject": "Welcome", "template": "welcome"},
            key=f"user{number}@example.com",
            cause=event,
            correlation=event,
            run=run,
        )

    def upload(self, at_ms: int, number: int) -> None:
        rng = self.random
        file, size = f"f-{number}", rng.randrange(10_000, 9_000_000)
        event = self.event(
            at_ms, "file.uploaded", {"fileId": file, "filename": f"report-{number}.pdf", "sizeBytes": size}, key=file
        )
        took = rng.lognormvariate(5.6, 0.7)
        sent = self.id_at(at_ms + int(took))
        run = self.run(
            at_ms + 5,
            "process-upload",
            event,
            "file.uploaded",
            took_ms=took,
            sent=[sent],
            output={"success": True},
            logs=[log_line(at_ms + 6, "info", "processing file", filename=f"report-{number}.pdf")],
        )
        self.event(
            at_ms + int(took),
            "file.processed",
            {"fileId": file, "processingResult": "success"},
            key=file,
            cause=event,
            correlation=event,
            run=run,
            id_=sent,
        )
        self.run(
            at_ms + int(took) + 4,
            "index-file",
            sent,
            "file.processed",
            took_ms=rng.lognormvariate(3.0, 0.5),
            output=None,
        )
        self.ids["chain_event"], self.ids["chain_run"], self.ids["chain_end"] = event, run, sent

    def payment(self, at_ms: int, number: int) -> None:
        rng = self.random
        customer = str(rng.randrange(1000, 1400))
        body = {
            "amount": round(rng.uniform(5, 900), 2),
            "currency": "EUR",
            "customerId": customer,
            "paymentId": f"p-{number}",
        }
        event = self.event(at_ms, "payment.succeeded", body, key=customer)
        failed = rng.random() < 0.03
        run = self.run(
            at_ms + 3,
            "receipt",
            event,
            "payment.succeeded",
            "failed" if failed else "succeeded",
            took_ms=rng.lognormvariate(4.0, 0.5),
            attempts=4 if failed else 1,
            output={"sent": True},
        )
        if failed:
            self.ids["failed_run"], self.ids["failed_event"] = run, event

    def markup(self, at_ms: int) -> None:
        """An event, a run and a dead letter whose every text is markup."""
        payload = {"message": SCRIPT, "more": IMAGE}
        event = self.event(at_ms, "test.event", payload, key=SCRIPT, id_=f"id-{IMAGE}")
        run = self.run(
            at_ms + 5,
            f"job-{IMAGE}",
            event,
            "test.event",
            "failed",
            message=IMAGE,
            error_type=SCRIPT,
            trace=f"Traceback {SCRIPT} {IMAGE}",
            logs=[log_line(at_ms, "info", SCRIPT, field=IMAGE)],
        )
        self.ids |= {
            "markup_event": event,
            "markup_run": run,
            "markup_job": f"job-{IMAGE}",
            "markup_letter": self.ids["letter"],
        }

    def day(self, events: int) -> None:
        """So many events over the day before NOW, more of them late in it, and nothing after a minute ago."""
        rng = self.random
        moments = sorted(NOW_MS - 60_000 - int(DAY_MS * (1 - rng.random() ** 0.6)) for _ in range(events))
        kinds = (self.sign_up, self.upload, self.payment)
        for number, at_ms in enumerate(moments):
            kinds[rng.choices((0, 1, 2), (5, 3, 4))[0]](at_ms, number)
            if len(self._records) > 20_000:
                self.write()
        self.write()

    def try_out(self, at_ms: int, name: str) -> None:
        """A run that fails four times, with a dead letter."""
        event = self.event(at_ms, "test.event", {"message": name, "fail": True})
        run = self.run(
            at_ms + 5,
            "try-out",
            event,
            "test.event",
            "failed",
            attempts=4,
            took_ms=140,
            message="asked to fail",
            error_type="playhead_consumers.try_out.FailedOnPurpose",
            logs=[log_line(at_ms + 9, "warning", "about to fail", message=name)],
        )
        self.ids |= {"tried_event": event, "tried_run": run, "tried_letter": self.ids["letter"]}


def log_line(at_ms: int, level: str, text: str, **fields: Any) -> dict[str, Any]:
    """A line as the engine keeps it."""
    return {"level": level, "event": text, "at": rfc3339(at_ms), **fields}


def shop(store: HistoryStore, events: int = 700) -> Scene:
    """The scene that the tests and the screenshots look at."""
    scene = Scene(store)
    scene.day(events)
    scene.markup(NOW_MS - 55_000)
    scene.try_out(NOW_MS - 50_000, "first")
    scene.try_out(NOW_MS - 45_000, "second")
    scene.upload(NOW_MS - 40_000, 100_000)
    scene.write()
    return scene


def names(scene: Scene) -> Iterator[tuple[str, str]]:
    """Every page of the dashboard: (name, address)."""
    from urllib.parse import quote

    ids = {name: quote(value, safe="") for name, value in scene.ids.items()}
    yield from (
        ("overview", "/?range=24h"),
        ("overview-1h", "/"),
        ("events", "/events"),
        ("event", f"/events/{ids['chain_event']}"),
        ("runs", "/runs"),
        ("run", f"/runs/{ids['chain_run']}"),
        ("run-failed", f"/runs/{ids['tried_run']}"),
        ("jobs", "/jobs?range=24h"),
        ("job", "/jobs/receipt?range=24h"),
        ("timers", "/timers"),
        ("dead-letters", "/dead-letters"),
        ("dead-letter", f"/dead-letters/{ids['tried_letter']}"),
        ("catalog", "/catalog"),
        ("schema", "/catalog/document.shared"),
        ("send", "/send?event=document.shared"),
        ("send-raw", "/send"),
        ("missing", "/runs/none"),
    )
