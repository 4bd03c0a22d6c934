"""How facts are written."""

from __future__ import annotations

import time
from typing import Any

import pytest

from playhead.dashboard import showing
from playhead.dashboard.addresses import Query, span_of
from playhead.dashboard.charts import lines, nice_top, stacked, timeline
from playhead.errors import InvalidInput
from playhead.history.statistics import Span


class TestNumbers:
    @pytest.mark.parametrize(
        ("ms", "words"),
        [
            (None, "\N{EN DASH}"), (0.4123, "0.41 ms"), (12.34, "12.3 ms"), (999.4, "999 ms"), (1_200, "1.20 s"),
            (185_000, "3 min 05 s"), (7_500_000, "2 h 05 min"), (200_000_000, "2 d 7 h"),
        ],
    )  # fmt: skip
    def test_duration(self, ms: float | None, words: str) -> None:
        assert showing.duration(ms) == words

    @pytest.mark.parametrize(
        ("part", "whole", "words"),
        [
            (0, 0, "\N{EN DASH}"),
            (1, 1, "100 %"),
            (0, 9, "0 %"),
            (99_999, 100_000, "> 99.9 %"),
            (1, 100_000, "< 0.1 %"),
            (1, 3, "33.3 %"),
        ],
    )
    def test_share_is_all_or_nothing_only_where_it_is(self, part: int, whole: int, words: str) -> None:
        assert showing.percent(part, whole) == words

    @pytest.mark.parametrize(
        ("number", "words"), [(99_999, "99,999"), (123_456, "123 k"), (5_100_000, "5.10 M"), (2e9, "2.00 G")]
    )
    def test_count(self, number: float, words: str) -> None:
        assert showing.count(number) == words

    @pytest.mark.parametrize(("seconds", "words"), [(0, "now"), (5, "5 s ago"), (-90, "in 1 min"), (90_000, "1 d ago")])
    def test_relative(self, seconds: int, words: str) -> None:
        assert showing.relative(1_000_000_000_000, 1_000_000_000_000 + seconds * 1000) == words

    @pytest.mark.parametrize("at_ms", [-1, 0, 1e18, -1e18])
    def test_any_time_that_a_foreign_record_says_can_be_shown(self, at_ms: float) -> None:
        assert showing.exact(at_ms).endswith("UTC")
        assert "<time" in showing.ago(at_ms, 0)


class TestJson:
    def test_parts_are_told_apart_and_escaped(self) -> None:
        html = str(showing.pretty({"a<b": ["</span><script>", 1.5, None]}))
        assert '<span class="k">&#34;a&lt;b&#34;</span>' in html
        assert '<span class="s">&#34;&lt;/span&gt;&lt;script&gt;&#34;</span>' in html
        assert '<span class="n">1.5</span>' in html
        assert '<span class="w">null</span>' in html

    def test_bytes_that_are_none_stand_as_they_are(self) -> None:
        assert "&lt;b&gt;\ufffd" in str(showing.pretty(b"<b>\xff"))

    @pytest.mark.parametrize("data", [b'"' + b'\\"' * 40_000 + b'"', b'["' + b'\\"' * 40_000, b'""' + b" " * 60_000])
    def test_quotes_that_never_end_are_looked_at_once(self, data: bytes) -> None:
        began = time.process_time()
        showing.pretty(data)
        assert time.process_time() - began < 1  # it was half a minute

    def test_text_that_was_cut_is_a_text(self) -> None:
        assert str(showing.pretty(b'{"a": 1, "b')).endswith('<span class="s">&#34;b</span>')

    @pytest.mark.parametrize("depth", [900, 5_000])
    def test_any_depth_is_shown_as_it_stands_or_told(self, depth: int) -> None:
        data = b"[" * depth + b"]" * depth
        assert showing.as_text(data)
        value: Any = []
        for _ in range(depth):
            value = [value]
        assert showing.one_line(value)
        assert showing.as_text(value)

    def test_what_is_long_is_cut(self) -> None:
        assert len(showing.as_text("x" * 1_000_000)) < showing.MAX_JSON_CHARS + 100


class TestAddresses:
    def test_range_is_kept_beside_other_filters(self) -> None:
        query = Query.read("/runs", b"state=failed&cursor=abc&range=7d")
        assert query.having(range="1h", cursor=None) == "/runs?state=failed&range=1h"

    def test_ranges_end_after_now(self) -> None:
        span = span_of(Query.read("/", b""), 1_800_000_030_000)
        assert (span.name, span.since, span.until) == ("1h", 1_800_000_060 - 3600, 1_800_000_060)

    @pytest.mark.parametrize(
        "query", [b"range=3h", b"since=soon", b"since=2027-01-02&until=2027-01-01", b"since=0001-01-01"]
    )
    def test_nonsense_is_refused(self, query: bytes) -> None:
        with pytest.raises(InvalidInput):
            span_of(Query.read("/", query), 1_800_000_000_000)

    @pytest.mark.parametrize("days", [0.01, 0.4, 1, 3, 30, 400, 20_000])
    def test_any_stretch_has_a_chart_of_bearable_size(self, days: float) -> None:
        since = 1_800_000_000 - int(days * 86_400)
        query = Query.read("/", f"since={showing.iso(max(0, since) * 1000)}&until=2027-01-15T08:00:00".encode())
        assert 1 <= len(span_of(query, 1_800_000_000_000).steps.times) <= 200


class TestCharts:
    STEPS = Span(0, 600, 60)

    def test_one_failure_among_many_is_seen(self) -> None:
        kinds = (("succeeded", "succeeded"), ("failed", "failed"))
        chart = stacked("Runs", self.STEPS, kinds, {(0, "succeeded"): 10_000, (0, "failed"): 1})
        assert {box.kind: box.height >= 1.5 for box in chart.boxes} == {"succeeded": True, "failed": True}
        assert chart.summary == "Runs: 10,000 succeeded, 1 failed"
        assert chart.hits[0].say == "00:00: succeeded 10,000, failed 1"

    def test_no_line_goes_over_a_gap(self) -> None:
        measured = {(0, "p50"): 5.0, (60, "p50"): 50.0, (300, "p50"): 5.0}
        chart = lines("Durations", self.STEPS, [("p50", "p50")], measured)
        assert len(chart.lines) == len(chart.dots) == 1

    def test_empty_is_told(self) -> None:
        assert stacked("Runs", self.STEPS, [("count", "events")], {}).is_empty

    @pytest.mark.parametrize("highest", [0, 1, 3, 7, 99, 12_345])
    def test_top_holds_the_highest_and_has_a_whole_half(self, highest: int) -> None:
        assert nice_top(highest) >= highest
        assert nice_top(highest) % 2 == 0

    def test_bars_of_attempts_stay_within_the_line(self) -> None:
        bars, whole = timeline([(1, 0, 10, "retrying"), (2, 1_000, 0.001, "retrying"), (3, 5_000, 20, "failed")])
        assert whole == 5_020
        assert all(bar.x >= 0 and bar.x + bar.width <= 1000.1 and bar.wait_width >= 0 for bar in bars)
