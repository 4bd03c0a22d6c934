"""How facts are written: times, durations, counts, JSON. Pure; what comes from payloads is escaped here or later."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any

from markupsafe import Markup, escape

MAX_JSON_CHARS = 64 * 1024
"""Of a payload on a page; the API has all of it."""

_DASH = "\N{EN DASH}"
_STEPS = ((60, "s"), (60, "min"), (24, "h"), (365, "d"))
_TOO_DEEP = "(nested too deeply to be shown here; the API has it)"
# A text ends with its quote, or where everything does: it may have been cut. So no quote is looked at twice, else a
# long text of escaped quotes holds the interpreter for half a minute.
_TOKEN = re.compile(
    r'(?P<s>"(?:[^"\\]|\\.)*+(?:"|\\?\Z))(?P<colon>\s*+:)?'
    r"|(?P<n>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|(?P<w>\btrue\b|\bfalse\b|\bnull\b)",
    re.DOTALL,
)


def exact(at_ms: float | None) -> str:
    """A moment to the millisecond, UTC."""
    if at_ms is None:
        return _DASH
    at = _moment(at_ms)
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d} UTC"


def iso(at_ms: float) -> str:
    """A moment for `<time datetime>`."""
    return _moment(at_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def relative(at_ms: float | None, now_ms: float) -> str:
    """How long ago a moment was, or how far ahead it is, in one unit."""
    if at_ms is None:
        return _DASH
    seconds = (now_ms - at_ms) / 1000
    if abs(seconds) < 1:
        return "now"
    amount = _in_one_unit(abs(seconds))
    return f"{amount} ago" if seconds > 0 else f"in {amount}"


def _in_one_unit(seconds: float) -> str:
    amount = seconds
    for step, unit in _STEPS:
        if amount < step:
            return f"{int(amount)} {unit}"
        amount /= step
    return f"{int(amount)} y"


def ago(at_ms: float | None, now_ms: float) -> Markup:
    """A `<time>`: relative, with the exact one in its title."""
    if at_ms is None:
        return Markup(_DASH)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(iso(at_ms), exact(at_ms), relative(at_ms, now_ms))


def duration(ms: float | None) -> str:
    """A duration with three digits or so: 0.41 ms, 12.3 ms, 1.20 s, 3 min 05 s."""
    if ms is None:
        return _DASH
    if ms < 1000:
        return f"{_three_digits(ms)} ms"
    seconds = ms / 1000
    if seconds < 60:
        return f"{_three_digits(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def _three_digits(number: float) -> str:
    if number >= 100:
        return f"{number:.0f}"
    return f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def count(number: float | None) -> str:
    """A count with thin thousands, short from a hundred thousand on."""
    if number is None:
        return _DASH
    for factor, unit in ((1e9, "G"), (1e6, "M")):
        if number >= factor:
            return f"{_three_digits(number / factor)} {unit}"
    if number >= 100_000:
        return f"{number / 1000:.0f} k"
    return f"{number:,.0f}"


def rate(per_second: float) -> str:
    """Events or runs per second, or per minute where that is less than one."""
    if per_second >= 1:
        return f"{count(per_second) if per_second >= 100 else _three_digits(per_second)}/s"
    per_minute = per_second * 60
    return f"{_three_digits(per_minute)}/min" if per_minute else "0/s"


def percent(part: float, whole: float) -> str:
    """A share; never 100 % or 0 % where that is only rounded."""
    if not whole:
        return _DASH
    share = 100 * part / whole
    if 99.9 < share < 100:
        return "> 99.9 %"
    if 0 < share < 0.1:
        return "< 0.1 %"
    return f"{share:.0f} %" if share in (0, 100) else f"{share:.1f} %"


def short_id(text: str) -> str:
    """An id as it is told apart at a glance: its end, where its beginning is the time."""
    return text if len(text) <= 14 else f"…{text[-12:]}"


def as_text(value: Any) -> str:
    """A JSON value as text with lines, cut where it is very long. Bytes that are no JSON stand as they are."""
    if isinstance(value, bytes):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return _cut(value.decode(errors="replace"))
    try:
        return _cut(json.dumps(value, indent=2, ensure_ascii=False, default=str))
    except RecursionError:
        return _TOO_DEEP


def _cut(text: str) -> str:
    if len(text) <= MAX_JSON_CHARS:
        return text
    return f"{text[:MAX_JSON_CHARS]}\n… {len(text) - MAX_JSON_CHARS:,} characters more"


def pretty(value: Any) -> Markup:
    """A JSON value with its parts told apart by colour; everything in it is escaped."""
    text, at, parts = as_text(value), 0, []
    for token in _TOKEN.finditer(text):
        kind = next(name for name in "snw" if token[name] is not None)
        parts.append(escape(text[at : token.start()]))
        parts.append(Markup('<span class="{}">{}</span>').format("k" if token["colon"] else kind, token[kind]))
        at = token.end(kind)
    parts.append(escape(text[at:]))
    return Markup("").join(parts)


def one_line(value: Any, chars: int = 160) -> str:
    """A JSON value on one line, for a table."""
    if isinstance(value, bytes):
        text = value[: chars * 4].decode(errors="replace")
    else:
        try:
            text = json.dumps(value, ensure_ascii=False, default=str)
        except RecursionError:
            text = _TOO_DEEP
    return text if len(text) <= chars else text[: chars - 1] + "…"


def _moment(at_ms: float) -> datetime:
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):  # foreign records may say any time
        return datetime.fromtimestamp(0, UTC) if at_ms < 0 else datetime.max.replace(tzinfo=UTC)
