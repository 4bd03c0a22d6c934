from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from playhead.broker.memory import MemoryBroker
from playhead.cli.moments import offsets_of, parse_moment
from playhead.errors import InvalidInput
from playhead.records import Partition, Record
from playhead.testing import VirtualClock
from playhead.topics import TopicSpec

NOW = datetime(2026, 11, 24, 8, 0, tzinfo=UTC)


class TestParseMoment:
    @pytest.mark.parametrize("word", ["earliest", "now"])
    def test_words_stand_for_themselves(self, word: str) -> None:
        assert parse_moment(word, NOW) == word

    @pytest.mark.parametrize(
        ("text", "ago"),
        [
            ("-30s", timedelta(seconds=30)),
            ("-10m", timedelta(minutes=10)),
            ("-2h", timedelta(hours=2)),
            ("-1d", timedelta(days=1)),
            ("-1w", timedelta(weeks=1)),
        ],
    )
    def test_minus_and_a_unit_is_before_now(self, text: str, ago: timedelta) -> None:
        assert parse_moment(text, NOW) == NOW - ago

    def test_iso_time_keeps_its_zone(self) -> None:
        assert parse_moment("2026-11-24T09:30+02:00", NOW) == datetime(2026, 11, 24, 7, 30, tzinfo=UTC)
        assert parse_moment("2026-11-24T07:30:00Z", NOW) == datetime(2026, 11, 24, 7, 30, tzinfo=UTC)

    def test_iso_time_without_zone_is_local(self) -> None:
        assert parse_moment("2026-11-24T09:30", NOW) == datetime(2026, 11, 24, 9, 30).astimezone()

    @pytest.mark.parametrize("text", ["yesterday", "-10", "10m", "-10y", "", "2026-13-01", "-999999999w"])
    def test_anything_else_is_refused_with_examples(self, text: str) -> None:
        with pytest.raises(InvalidInput, match="is no moment") as refused:
            parse_moment(text, NOW)
        assert "-10m" in refused.value.remedy


class TestOffsetsOf:
    async def test_a_moment_is_an_offset_in_each_partition(self) -> None:
        broker = MemoryBroker(VirtualClock())
        await broker.start()
        await broker.create_topics([TopicSpec("user", 2)])
        await broker.append([Record("user", 0, None, b"{}", [], 1_000 * second) for second in (1, 2, 3)])
        both = [Partition("user", 0), Partition("user", 1)]
        bounds = await broker.bounds(both)

        async def offsets(moment: object) -> list[int]:
            return list((await offsets_of(broker, both, moment, bounds=bounds)).values())  # type: ignore[arg-type]

        assert await offsets("earliest") == [0, 0]
        assert await offsets("now") == [3, 0]
        assert await offsets(datetime.fromtimestamp(2, UTC)) == [1, 0]
        await broker.stop()
