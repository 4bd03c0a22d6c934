"""Jobs as they are declared: what contradicts itself is refused at once, not in the night."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from playhead import IO, Client, TypedEvent, event_trigger
from playhead.errors import InvalidEventName, InvalidJob


class UnitOrder(TypedEvent, name="unit-order.placed"):
    order_id: str
    amount: int = 0


async def run(payload: Any, io: IO) -> None: ...


def plain(payload: Any, io: Any) -> None: ...


def define(**changes: Any) -> Any:
    definition = {"id": "j", "name": "J", "version": "1", "trigger": event_trigger("unit-order.placed"), "run": run}
    return Client("c").define_job(**{**definition, **changes})


class TestDefinition:
    @pytest.mark.parametrize(
        "change",
        [
            {"id": "Upper"},
            {"id": "x" * 101},
            {"id": "-a"},
            {"run": 5},
            {"run": lambda payload: None},
            {"concurrency": 0},
            {"timeout": 0},
            {"timeout": timedelta(seconds=-1)},
            {"timeout": float("nan")},
            {"dedupe_window": -1},
            {"dedupe_window": float("inf")},
            {"dedupe_window": timedelta(days=31)},
            {"order": "sideways"},
            {"retry": 3},
            {"version": 1},
            {"name": None},
            {"executor": "fork"},
            {"executor": "process"},
            {"start": "yesterday"},
            {"start": datetime(2026, 1, 1)},  # noqa: DTZ001 -- a time without a zone is what is refused
        ],
        ids=str,
    )
    def test_that_makes_no_sense_is_refused(self, change: dict[str, Any]) -> None:
        with pytest.raises(InvalidJob, match="job "):
            define(**change)

    def test_option_that_is_none_is_refused_with_the_nearest(self) -> None:
        with pytest.raises(InvalidJob, match="no option 'time_out'") as refused:
            define(time_out=30)
        assert refused.value.remedy == "Did you mean 'timeout'?"
        with pytest.raises(InvalidJob) as refused:
            define(xyz=1)
        assert "dedupe_window" in refused.value.remedy

    def test_takes_times_as_seconds_or_timedelta(self) -> None:
        job = define(timeout=timedelta(minutes=2), dedupe_window=60, start=datetime(2026, 1, 1, tzinfo=UTC))
        assert (job.attempt_timeout_seconds, job.dedupe_window_seconds) == (120.0, 60.0)

    def test_id_names_one_job(self) -> None:
        client = Client("c")
        made = {"id": "j", "name": "J", "version": "1", "trigger": event_trigger("unit-order.placed")}
        client.define_job(run=run, **made)  # type: ignore[arg-type]
        with pytest.raises(InvalidJob, match="twice"):
            client.define_job(run=run, **made)  # type: ignore[arg-type]

    def test_decorator_leaves_the_function_as_it_is(self) -> None:
        client = Client("c")
        trigger = event_trigger("unit-order.placed")
        assert client.job(id="j", name="J", version="1", trigger=trigger)(plain) is plain
        assert client.jobs["j"].function is plain
        assert not client.jobs["j"].is_async


class TestTrigger:
    @pytest.mark.parametrize("event", [5, None, dict, TypedEvent])
    def test_takes_a_name_or_a_class_of_the_catalog(self, event: Any) -> None:
        with pytest.raises(InvalidJob, match="has no name"):
            event_trigger(event)

    def test_name_has_to_keep_the_convention(self) -> None:
        with pytest.raises(InvalidEventName):
            event_trigger("Order")

    def test_filter_is_a_function_or_a_mapping(self) -> None:
        with pytest.raises(InvalidJob, match="filter"):
            event_trigger("unit-order.placed", filter="amount > 5")

    def test_filter_by_pythons_name_of_a_field_would_let_nothing_pass(self) -> None:
        with pytest.raises(InvalidJob, match="'orderId' on the wire") as refused:
            event_trigger(UnitOrder, filter={"order_id": "1"})
        assert refused.value.remedy == "Write 'orderId'."

    @pytest.mark.parametrize(
        ("condition", "passes"),
        [
            ({"orderId": "1"}, True),
            ({"orderId": ["1", "2"], "amount": 3}, True),
            ({"orderId": ("2",)}, False),
            ({"amount": 4}, False),
            ({"missing": None}, True),
            ({"missing": 1}, False),
            ({}, True),
            (None, True),
        ],
    )
    def test_filter_by_fields_asks_for_wire_names_of_both_kinds_of_payload(self, condition: Any, passes: bool) -> None:
        assert event_trigger(UnitOrder, filter=condition).accepts(UnitOrder(order_id="1", amount=3)) is passes
        wire = {"orderId": "1", "amount": 3}
        assert event_trigger("unit-order.placed", filter=condition).accepts(wire) is passes
