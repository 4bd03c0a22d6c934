"""Moments as they are typed: `earliest`, `now`, `-10m`, `2026-11-24T08:00:00Z`. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

from playhead.broker.contract import Broker
from playhead.errors import InvalidInput
from playhead.records import Partition

Moment: TypeAlias = Literal["earliest", "now"] | datetime

_AGO = re.compile(r"-(\d{1,9})(s|m|h|d|w)")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def parse_moment(text: str, now: datetime) -> Moment:
    """A moment from the command line. A time without zone is local time.

    Raises:
        InvalidInput: it can't be read.
    """
    if text == "earliest":
        return "earliest"
    if text == "now":
        return "now"
    try:
        ago = _AGO.fullmatch(text)
        if ago:
            return now - timedelta(seconds=int(ago[1]) * _UNIT_SECONDS[ago[2]])
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as error:
        raise InvalidInput(
            f"{text!r} is no moment.", remedy="Use earliest, now, -10m (s, m, h, d, w), or 2026-11-24T08:00:00Z."
        ) from error


async def offsets_of(
    broker: Broker, partitions: Iterable[Partition], moment: Moment, *, bounds: dict[Partition, tuple[int, int]]
) -> dict[Partition, int]:
    """Where reading begins in each partition to see what came from `moment` on.

    Args:
        bounds: of these partitions, as `Broker.bounds` gave them.
    """
    wanted = list(partitions)
    if moment == "earliest":
        return {partition: bounds[partition][0] for partition in wanted}
    if moment == "now":
        return {partition: bounds[partition][1] for partition in wanted}
    assert isinstance(moment, datetime)
    return await broker.offsets_at(wanted, int(moment.timestamp() * 1000))
