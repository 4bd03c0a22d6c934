"""The endpoints: each reads as the sentence that its documentation is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from playhead.client import Client
from playhead.errors import PlayheadError, Retriable
from playhead.http.answers import JsonAnswer, failure, headers_of, not_ready, report, status_of
from playhead.http.bodies import read_json
from playhead.http.envelope import batch_from, event_from, idempotency_key
from playhead.http.limits import Limits
from playhead.http.readiness import BrokerProbe, WorkerState, what_is_missing
from playhead.http.refusals import InvalidFields
from playhead.sending import SentEvent
from playhead.serde import rfc3339_of

INDEX = """\
Playhead

POST /trigger             send an event: {"event": "user.created", "payload": {...}}
POST /api/events          send many: {"events": [{"event": ..., "payload": ...}, ...]}
GET  /api/events          what was sent; /api/events/ID one of them, /api/events/ID/chain what caused what
GET  /api/runs            what jobs did; /api/runs/ID one run, with its attempts
GET  /api/stats           success and failure, throughput, durations; GET /api/lag how far jobs are behind
GET  /api/dead-letters    what failed for good; POST /api/dead-letters/ID/retry works on it again
POST /api/dead-letters/retry  many of them; POST /api/dead-letters/discard gives them up
GET  /api/timers          what is to be sent later, by due time
GET  /api/timers/ID       one of them; DELETE cancels it, PATCH moves it
GET  /api/schedules       jobs that run by the clock, and when they are due next
POST /api/schedules/JOB/run   run one now; DELETE /api/schedules/JOB takes its schedule back
GET  /healthz             is the process alive
GET  /readyz              can events be sent, and do the worker's tasks run
GET  /metrics             what it counts, for Prometheus
GET  /openapi.json        the description of all of it

curl -X POST http://localhost:3002/trigger \\
  -H "Content-Type: application/json" \\
  -d '{"event": "test.event", "payload": {"message": "This is a test event"}}'
"""


class Sending:
    """What sends events. Nothing is answered as sent before every in-sync replica has it."""

    def __init__(self, client: Client, limits: Limits) -> None:
        self._client, self._limits = client, limits

    async def trigger(self, request: Request) -> Response:
        """Send one event."""
        header_id = idempotency_key(request.headers.getlist("idempotency-key"))
        limits = self._limits
        body = await read_json(request, limit_bytes=limits.event_body_bytes, seconds=limits.body_seconds)
        (sent,) = await self._client.send_all([event_from(body, header_id)])
        if isinstance(sent, PlayheadError):
            raise sent
        return JsonAnswer({"success": True, "message": f"Event {sent.name} sent", "result": _location(sent)})

    async def batch(self, request: Request) -> Response:
        """Send many events: 200 when all are in the log, 207 when some are not, 503 when the broker is away for all."""
        if idempotency_key(request.headers.getlist("idempotency-key")) is not None:
            raise InvalidFields([("Idempotency-Key", "a batch has many events; give each an `id`")])
        limits = self._limits
        body = await read_json(request, limit_bytes=limits.batch_body_bytes, seconds=limits.body_seconds)
        sent = await self._client.send_all(batch_from(body, limits.batch_events))
        results = [_item(result) for result in sent]
        failed = [result for result in sent if isinstance(result, PlayheadError)]
        if not failed:
            return JsonAnswer({"results": results})
        away = next((error for error in failed if isinstance(error, Retriable)), None)
        _report_once_each(failed)
        if away is not None and len(failed) == len(results):
            return JsonAnswer({**failure(away), "results": results}, 503, headers_of(away))
        return JsonAnswer({"results": results}, 207)


class Health:
    """What a load balancer or an orchestrator asks."""

    def __init__(self, probe: BrokerProbe, worker: WorkerState | None, limits: Limits) -> None:
        self._probe, self._worker, self._limits = probe, worker, limits

    async def alive(self, request: Request) -> Response:
        """The process answers. It says nothing of the broker: restarting this process would not bring that back."""
        return JsonAnswer({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """Events can be sent, and the worker's tasks run; else 503 with what is missing."""
        missing = await what_is_missing(self._probe, self._worker, self._limits.ready_seconds)
        return not_ready(missing) if missing else JsonAnswer({"status": "ready"})


async def index(request: Request) -> Response:
    """The endpoints, as text."""
    return PlainTextResponse(INDEX)


def _location(sent: SentEvent) -> dict[str, Any]:
    if sent.offset is None:  # would be an event that waits for a run's commit: there is no run here
        raise RuntimeError(f"event {sent.id} was acknowledged without an offset")
    offset = sent.offset if sent.offset >= 0 else None
    location = {"id": sent.id, "topic": sent.topic, "partition": sent.partition, "offset": offset}
    return location if sent.due_at is None else {**location, "dueAt": rfc3339_of(sent.due_at)}


def _item(result: SentEvent | PlayheadError) -> dict[str, Any]:
    if isinstance(result, PlayheadError):
        return {"success": False, **failure(result), "status": status_of(result)}
    return {"success": True, "result": _location(result)}


def _report_once_each(failed: Sequence[PlayheadError]) -> None:
    """One log line per kind of error: a batch of a thousand must not write a thousand."""
    for error in {error.code: error for error in failed}.values():
        report(error, status_of(error))
