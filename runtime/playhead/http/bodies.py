"""From the bytes of a request to JSON values: content type, size, time, and what JSON can't carry unchanged.

    headers ──▶ content type? (415) ──▶ declared length? (413) ──▶ read, counting (413, 408) ──▶ parse (400) ──▶
    nesting, integers (422) ──▶ values

A body is parsed once, by orjson. The checks behind it look for what they are about with one pass over the
bytes, and do nothing more where they find none.
"""

from __future__ import annotations

import asyncio
import re
from functools import lru_cache
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request

from playhead.http.limits import DISCARD_BYTES, MAX_NESTING
from playhead.http.refusals import BodyNotJson, BodyTooLarge, BodyTooSlow, UnsafeJson, UnsupportedBody

_JSON_TYPE = re.compile(r"application/(json|[a-z0-9!#$&^_.+-]+\+json)")
_CHARSETS = frozenset({"utf-8", "utf8", "us-ascii"})

_LONG_DIGITS = re.compile(rb"[0-9]{19,}+")
_INT_MIN, _INT_MAX = -(1 << 63), (1 << 64) - 1
"""What orjson reads as an integer. Beyond, it reads a float, and the last digits are gone without a word."""
_INT_CHARS_MAX = 20
_WITHIN_NUMBER = frozenset({b".", b"e", b"E", b"+"})
"""Before digits: they are a fraction or an exponent."""
_NO_INTEGER = frozenset({b".", b"e", b"E"})
"""Behind digits: the number has a fraction or an exponent."""
_CONTAINERS = frozenset({dict, list})


async def read_json(request: Request, *, limit_bytes: int, seconds: float) -> Any:
    """Read and parse the body of a request.

    Raises:
        UnsupportedBody, BodyTooLarge, BodyTooSlow, BodyNotJson, UnsafeJson.
        ClientDisconnect: the client went away; there is nobody to answer.
    """
    headers = request.headers
    if problem := _media_problem(headers.get("content-type", ""), headers.get("content-encoding", "")):
        raise UnsupportedBody(problem)
    declared = headers.get("content-length", "0")
    if declared.isdecimal() and (len(declared) > 15 or int(declared) > limit_bytes):
        waits = headers.get("expect", "").lower() == "100-continue"
        if waits or len(declared) > 15 or int(declared) > limit_bytes + DISCARD_BYTES:
            raise BodyTooLarge(limit_bytes, closes=True)
    try:
        async with asyncio.timeout(seconds):
            body = await _read(request, limit_bytes)
    except TimeoutError as error:
        raise BodyTooSlow(seconds) from error
    return parse(body)


async def _read(request: Request, limit_bytes: int) -> bytes:
    """The body. One that is too large is read to its end and thrown away, as far as that is bearable.

    Many clients look for an answer only after they have sent everything; a connection closed before loses them the 413.
    """
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size <= limit_bytes:
            chunks.append(chunk)
        elif size > limit_bytes + DISCARD_BYTES:
            raise BodyTooLarge(limit_bytes, closes=True)
        else:
            chunks.clear()
        if not message.get("more_body", False):
            break
    if size > limit_bytes:
        raise BodyTooLarge(limit_bytes)
    return b"".join(chunks)


@lru_cache(maxsize=64)
def _media_problem(content_type: str, content_encoding: str) -> str:
    """Why a body of this kind is not taken, or nothing."""
    media, *parameters = [part.strip().lower() for part in content_type.split(";")]
    if not _JSON_TYPE.fullmatch(media):
        return f"the content type is {media!r}." if media else "the request has no content type."
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in _CHARSETS:
            return f"the charset is {value.strip()!r}; JSON is UTF-8."
    if content_encoding.strip().lower() not in ("", "identity"):
        return f"the content encoding is {content_encoding!r}; send the body as it is."
    return ""


def parse(body: bytes) -> Any:
    """Parse a body.

    Of an object's equal names the last counts, as in JSON.parse. NaN and Infinity are not JSON, neither are unpaired
    surrogates, bytes that are not UTF-8, or numbers beyond a double's range. Fractions are doubles.

    Raises:
        BodyNotJson, UnsafeJson.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if " limit " in error.msg:  # orjson's own limit, of 1,024 levels
            raise _too_deep() from error
        raise BodyNotJson(str(error)) from error
    if body.count(b"[") + body.count(b"{") > MAX_NESTING and _deeper_than(value, MAX_NESTING):
        raise _too_deep()
    if _LONG_DIGITS.search(body) and (digits := _lossy_integer(body)):
        raise UnsafeJson(f"the integer {digits} does not fit into 64 bits.")
    return value


def _too_deep() -> UnsafeJson:
    return UnsafeJson(f"the body nests objects and arrays more than {MAX_NESTING} levels deep.")


def _deeper_than(value: Any, levels: int) -> bool:
    """Whether containers nest deeper than `levels`. Goes level by level, which costs no stack and little time."""
    level = [value] if type(value) in _CONTAINERS else []
    for _ in range(levels):
        level = [
            item
            for container in level
            for item in (container.values() if type(container) is dict else container)
            if type(item) in _CONTAINERS
        ]
        if not level:
            return False
    return bool(level)


def _lossy_integer(body: bytes) -> str:
    """The first integer outside any text that would become a float, shortened; or nothing. The body is JSON.

    Backslashes are in texts alone: once what they escape is gone, every other quote ends a text.
    """
    plain = body.replace(rb"\\", b"").replace(rb"\"", b"")
    quotes = counted_to = 0
    for match in _LONG_DIGITS.finditer(plain):
        start, end = match.span()
        negative = plain[start - 1 : start] == b"-"
        first = start - 1 if negative else start
        if plain[first - 1 : first] in _WITHIN_NUMBER or plain[end : end + 1] in _NO_INTEGER:
            continue
        digits = plain[first:end]
        if len(digits) <= _INT_CHARS_MAX and _INT_MIN <= int(digits) <= _INT_MAX:
            continue
        quotes += plain.count(b'"', counted_to, first)
        counted_to = first
        if quotes % 2 == 0:
            return str(digits[:_INT_CHARS_MAX], "ascii") + ("…" if len(digits) > _INT_CHARS_MAX else "")
    return ""
