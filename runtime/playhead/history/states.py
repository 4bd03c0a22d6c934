"""The words for what became of runs and of dead letters. Imports nothing: a command's options name them too."""

from __future__ import annotations

from collections.abc import Mapping

RUN_STATES = ("running", "retrying", "succeeded", "failed")
STATE_AFTER: Mapping[str, str] = {
    "run.retrying": "retrying",
    "run.succeeded": "succeeded",
    "run.failed": "failed",
}
"""What a run is after an event of it."""
LETTER_STATES = ("open", "retried", "discarded")
SETTLED_BY: Mapping[str, str] = {"dead-letter.retried": "retried", "dead-letter.discarded": "discarded"}
"""What a dead letter is after an event that settles it."""
