"""Answers test events, and fails when asked to: to see retries, `run.failed` and the dead letters.

playhead send test.event '{"message": "hello"}'                   succeeds
playhead send test.event '{"message": "hello", "fail": true}'     fails three times within a second, then for good
PLAYHEAD_DEMO_FAIL=1 playhead dev                                 fails whatever the event says
"""

from __future__ import annotations

import os

from playhead import IO, Client, RetryPolicy, event_trigger
from playhead_schemas.test import TestEvent

client = Client("acme")

DEMO_FAIL = "PLAYHEAD_DEMO_FAIL"


class FailedOnPurpose(Exception):
    """Somebody asked for it."""


@client.job(
    id="try-out",
    name="Try-out",
    version="1.0.0",
    trigger=event_trigger(TestEvent),
    retry=RetryPolicy(max_attempts=3, initial_seconds=0.2, max_seconds=1),
)
async def try_out(payload: TestEvent, io: IO) -> dict[str, str]:
    io.logger.info("test event", message=payload.message, attempt=io.run.attempt)
    if payload.fail:
        raise FailedOnPurpose('the payload says "fail": true')
    if os.environ.get(DEMO_FAIL) == "1":
        raise FailedOnPurpose(f"{DEMO_FAIL} is 1")
    return {"message": payload.message}
