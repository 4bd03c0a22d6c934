"""What the HTTP API takes at most. Everything beyond is refused, by name, before it costs anything."""

from __future__ import annotations

from dataclasses import dataclass

MAX_NESTING = 200
"""Levels of objects and arrays in a body: well inside what JSON parsers in other languages read."""
DISCARD_BYTES = 16 * 1_048_576
"""Of a body that is too large: read and thrown away before the answer. Beyond that, the connection is closed."""
MAX_ERROR_CHARS = 1_000
"""Of an error message: it may quote what was sent, which may be a megabyte."""
MAX_FIELDS_NAMED = 20
"""Offending fields named in one answer."""
RETRY_AFTER_SECONDS = 2
"""Told to clients while the broker is away: about as long as a broker's failover takes."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds that an installation may move."""

    event_body_bytes: int = 1_048_576
    """Body of POST /trigger. Events themselves are limited by their topic (768 KiB where nobody changed it)."""
    batch_body_bytes: int = 8 * 1_048_576
    """Body of POST /api/events."""
    batch_events: int = 1_000
    """Events in one POST /api/events."""
    body_seconds: float = 30.0
    """How long a client may take to send its body."""
    ready_seconds: float = 2.0
    """How long GET /readyz waits for the broker."""
    timers_seconds: float = 5.0
    """How long a question for timers or schedules waits until what is new in topic `delay` is read."""


DEFAULT_LIMITS = Limits()
