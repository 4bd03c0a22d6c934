"""The table of metrics, and what counts for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import playhead
from playhead import metrics
from playhead.metrics import BROKER_UP, METRICS, READY, START_LATENCY, Histogram, Metric

PAGE = (Path(metrics.__file__).parent / "METRICS.md").read_text()
ROOT = Path(str(playhead.__file__)).parents[1]


def row(metric: Metric) -> str:
    """Its row of the table in METRICS.md."""
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |"


class TestTable:
    def test_names_are_unique_and_as_prometheus_wants_them(self) -> None:
        names = [metric.name for metric in METRICS]
        assert len(names) == len(set(names))
        for metric in METRICS:
            assert metric.name.startswith("playhead_"), metric
            assert metric.name.endswith("_total") is (metric.kind == "counter"), metric
            assert "_ms" not in metric.name, metric
            assert bool(metric.bounds) is (metric.kind == "histogram"), metric
            assert list(metric.bounds) == sorted(set(metric.bounds)), metric

    def test_no_label_is_an_id_or_one_of_prometheus_own(self) -> None:
        known = {"part", "version", "topic", "code", "group", "partition", "outcome", "job_id", "reason", "state"}
        assert {label for metric in METRICS for label in metric.labels} == known

    def test_page_has_each_row_of_the_table_in_its_order_and_no_other(self) -> None:
        rows = [line for line in PAGE.splitlines() if line.startswith("| `playhead_")]
        assert rows == [row(metric) for metric in METRICS]


class TestSample:
    @pytest.mark.parametrize(
        ("metric", "value", "labels"),
        [
            (READY, 1, ()),
            (BROKER_UP, 1, ("x", "y")),
            (START_LATENCY, 1.0, ("j",)),
            (BROKER_UP, Histogram((1,)), ("x",)),
        ],
    )
    def test_one_that_does_not_fit_the_table_is_refused(
        self, metric: Metric, value: float | Histogram, labels: tuple[str, ...]
    ) -> None:
        with pytest.raises(ValueError, match=metric.name):
            metric.sample(value, *labels)


class TestHistogram:
    def test_bounds_belong_to_their_bucket(self) -> None:
        histogram = Histogram((1, 2))
        for value in (0.5, 1, 1.5, 2, 3):
            histogram.add(value)
        assert (histogram.counts, histogram.sum, histogram.count) == ([2, 2, 1], 8.0, 5)

    def test_negative_value_counts_as_nothing(self) -> None:
        histogram = Histogram((1,))
        histogram.add(-5)
        assert (histogram.counts, histogram.sum) == ([1, 0], 0.0)


def test_who_only_sends_needs_no_prometheus_client() -> None:
    program = (
        "import sys; sys.modules['prometheus_client'] = None\nimport playhead, playhead.broker.kafka, playhead.blocking"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
