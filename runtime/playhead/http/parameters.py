"""A query's parameters: which are known, and what they must be. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from starlette.requests import Request

from playhead.delay import when
from playhead.errors import InvalidDelay
from playhead.http.limits import MAX_FIELDS_NAMED
from playhead.http.refusals import InvalidFields


def parameters(request: Request, known: frozenset[str], *, prefix: str = "") -> Mapping[str, str]:
    """The query's parameters. One that is unknown, or there twice, is refused: a filter that were passed over would
    promise too much.

    Args:
        prefix: of parameters that may have any name behind it.
    """
    asked = request.query_params
    names = [name for name, _ in asked.multi_items()]
    unknown = sorted(
        name for name in set(names) - known if not (prefix and len(name) > len(prefix) and name.startswith(prefix))
    )
    if unknown:
        takes = "no such parameter; known: " + ", ".join([*sorted(known), *([f"{prefix}<path>"] if prefix else [])])
        raise InvalidFields([(name, takes) for name in unknown[:MAX_FIELDS_NAMED]])
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InvalidFields([(name, "it is there more than once") for name in twice[:MAX_FIELDS_NAMED]])
    return asked


def number(asked: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    """A whole number."""
    text = asked.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and low <= int(text) <= high):
        raise InvalidFields([(name, f"it is a whole number from {low} to {high:,}")])
    return int(text)


def moment_ms(asked: Mapping[str, str], name: str) -> int | None:
    """A moment, milliseconds since the epoch; None where it is not asked for."""
    text = asked.get(name)
    if text is None:
        return None
    try:
        wanted = when(None, text.replace(" ", "+"))  # a plus sign that was not escaped is a space in a query
    except InvalidDelay as error:
        raise InvalidFields([(name, error.why.rstrip("."))]) from error
    return None if wanted is None else wanted.at_ms


def choice(asked: Mapping[str, str], name: str, choices: Collection[str]) -> str:
    """One of several words; empty where it is not asked for."""
    text = asked.get(name, "")
    if text and text not in choices:
        raise InvalidFields([(name, f"it is one of {', '.join(choices)}")])
    return text


def words(asked: Mapping[str, str], *names: str) -> list[str]:
    """Texts that are there are not empty: a variable that was not set would else ask for everything."""
    if empty := [name for name in names if asked.get(name) == ""]:
        raise InvalidFields([(name, "it is empty") for name in empty])
    return [asked.get(name, "") for name in names]
