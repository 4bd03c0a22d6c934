"""Alerts and dashboard ask only for what the table of metrics has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml

from playhead.metrics import METRICS, Metric

DEPLOY = Path(__file__).parents[2] / "deploy"
BY_NAME = {metric.name: metric for metric in METRICS}
OF_THE_SCRAPE = {"instance"}
"""Labels that Prometheus adds."""


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DEPLOY / "grafana" / "playhead.json").read_text())
    return found


def queries() -> Iterator[tuple[str, str]]:
    """(where, PromQL) of everything that is asked for."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"].replace("$__rate_interval", "5m")


def series(name: str) -> tuple[Metric, set[str]]:
    """The metric that has the series, and the labels of it.

    Raises:
        KeyError: the table has no such series.
    """
    if name in BY_NAME and BY_NAME[name].kind != "histogram":
        return BY_NAME[name], set(BY_NAME[name].labels)
    stem, _, suffix = name.rpartition("_")
    metric = BY_NAME[stem]
    if metric.kind != "histogram" or suffix not in ("bucket", "sum", "count"):
        raise KeyError(name)
    return metric, {*metric.labels, "le"} if suffix == "bucket" else set(metric.labels)


def wrong(query: str) -> list[str]:
    """What of the query the table does not have."""
    return list(_wrong(promql.parse(query))[0])


def _wrong(node: Any) -> tuple[list[str], set[str]]:
    """(mistakes, labels that the values of this expression may have)."""
    if isinstance(node, promql.VectorSelector):
        try:
            _, labels = series(node.name)
        except KeyError:
            return [f"no series {node.name}"], set()
        named = {matcher.name for matcher in node.matchers.matchers}
        return [f"{node.name} has no label {name}" for name in named - labels - OF_THE_SCRAPE], labels | OF_THE_SCRAPE
    if isinstance(node, promql.MatrixSelector):
        return _wrong(node.vector_selector)
    if isinstance(node, promql.Call):
        parts = [_wrong(argument) for argument in node.args]
        return [m for mistakes, _ in parts for m in mistakes], {label for _, labels in parts for label in labels}
    if isinstance(node, promql.AggregateExpr):
        mistakes, labels = _wrong(node.expr)
        wanted = set(node.modifier.labels) if node.modifier is not None else set()
        return [*mistakes, *(f"{node} has no label {name}" for name in wanted - labels)], wanted & labels
    if isinstance(node, promql.BinaryExpr):
        (left, of_left), (right, of_right) = _wrong(node.lhs), _wrong(node.rhs)
        return left + right, of_left | of_right
    if isinstance(node, promql.ParenExpr):
        return _wrong(node.expr)
    assert isinstance(node, promql.NumberLiteral), f"this test does not know {type(node)}"
    return [], set()


@pytest.mark.parametrize(("where", "query"), list(queries()))
def test_asks_only_for_what_the_table_has(where: str, query: str) -> None:
    assert wrong(query) == []


@pytest.mark.parametrize(
    "query",
    [
        "playhead_runs",
        "rate(playhead_run_duration_seconds[5m])",
        "playhead_runs_total_bucket",
        'playhead_runs_total{job="x"}',
        "sum by (group) (playhead_runs_total)",
        "histogram_quantile(0.9, sum by (le) (rate(playhead_run_duration_seconds_count[5m])))",
    ],
)
def test_what_the_table_has_not_is_found(query: str) -> None:
    assert wrong(query) != []


def test_histograms_are_asked_by_their_buckets_bounds() -> None:
    """A quantile beyond the last bound is that bound: a threshold must lie below it."""
    for where, query in queries():
        for metric, threshold in re.findall(r"(playhead_\w+)_bucket\[\w+\]\)\)\) > ([\d.]+)", query):
            assert float(threshold) in BY_NAME[metric].bounds, where


def test_what_is_to_be_alerted_on_is() -> None:
    names = {rule["alert"] for rule in rules()}
    page = (Path(__file__).parents[2] / "runtime/playhead/METRICS.md").read_text()
    assert names == set(re.findall(r"`(Playhead[A-Z]\w+)`", page))
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "ticket"), rule
        assert set(rule["annotations"]) == {"summary", "description"}, rule


def test_annotations_name_labels_that_their_alert_has() -> None:
    for rule in rules():
        _, labels = _wrong(promql.parse(rule["expr"]))
        named = set(re.findall(r"\$labels\.(\w+)", json.dumps(rule["annotations"])))
        assert named <= labels, rule["alert"]


def test_every_metric_is_on_the_dashboard_but_the_version() -> None:
    text = " ".join(query for _, query in queries())
    assert [metric.name for metric in METRICS if metric.name not in text] == []


def test_panels_lie_beside_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in dashboard()["panels"]}) == len(dashboard()["panels"])
