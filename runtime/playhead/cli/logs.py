"""Where log lines go: to stderr, for people on a terminal, one JSON object a line elsewhere.

Everything passes through structlog; what libraries log with the standard library's `logging` comes out the same way,
from WARNING on. Ids of the run and the event that a line belongs to are bound with contextvars.

    PLAYHEAD_LOG_LEVEL     debug, info (the default), warning, error
    PLAYHEAD_LOG_FORMAT    pretty or json; where unset, the terminal decides
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from playhead.errors import InvalidSetting

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

LEVEL = "PLAYHEAD_LOG_LEVEL"
FORMAT = "PLAYHEAD_LOG_FORMAT"
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_FORMATS = ("pretty", "json")


def log_line(text: str) -> None:
    """Tell people something where the log is what they read."""
    import structlog

    structlog.get_logger("playhead.process").info(text)


def configure_logging(env: Mapping[str, str] = os.environ) -> None:
    """Set up structlog and logging for this process. Commands that run for long call it once, at their start.

    Raises:
        InvalidSetting: PLAYHEAD_LOG_LEVEL or PLAYHEAD_LOG_FORMAT has another value than those above.
    """
    import structlog

    level = _LEVELS[_one_of(env, LEVEL, list(_LEVELS), "info")]
    pretty = _one_of(env, FORMAT, _FORMATS, "pretty" if sys.stderr.isatty() else "json") == "pretty"
    shared: list[Processor] = [structlog.contextvars.merge_contextvars, structlog.stdlib.add_log_level]
    render: list[Processor]
    if pretty:
        shared.append(structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=False, key="time"))
        console = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            timestamp_key="time",
            sort_keys=False,
            pad_event_to=20,
            exception_formatter=structlog.dev.plain_traceback,
        )
        render = [_milliseconds, _ids_last, console]
    else:
        shared.append(structlog.processors.TimeStamper(fmt="iso", key="time"))
        render = [_facts_first, structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)


def _milliseconds(_logger: Any, _method: str, event: EventDict) -> EventDict:
    event["time"] = event["time"][:-3]
    return event


def _ids_last(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """The job first, then what was said, and the long ids where they do not push it off the screen."""
    job = {"job_id": event["job_id"]} if "job_id" in event else {}
    ids = {name: event[name] for name in ("run_id", "event_id") if name in event}
    rest = {name: value for name, value in event.items() if name not in job and name not in ids}
    return {**job, **rest, **ids}


def _facts_first(_logger: Any, _method: str, event: EventDict) -> EventDict:
    first = {name: event.pop(name) for name in ("time", "level", "event") if name in event}
    return {**first, **event}


def _one_of(env: Mapping[str, str], variable: str, allowed: list[str] | tuple[str, ...], default: str) -> str:
    value = env.get(variable) or default
    if value not in allowed:
        raise InvalidSetting(f"{variable}: {value!r} is none of {', '.join(allowed)}.")
    return value
