"""What the arguments of `playhead send` mean."""

from __future__ import annotations

import pytest

from playhead.cli.send import read_delay
from playhead.errors import InvalidDelay


@pytest.mark.parametrize(
    ("text", "delay"),
    [("250ms", {"milliseconds": 250}), ("1.5h", {"hours": 1.5}), ("2w", {"weeks": 2}), ("-5m", {"minutes": -5})],
)
def test_delay_is_a_number_and_a_unit(text: str, delay: dict[str, float]) -> None:
    assert read_delay(text) == delay


@pytest.mark.parametrize("text", ["", "h", "5", "5x", "24hours", "1h30m", "nans"])
def test_other_delays_are_none(text: str) -> None:
    with pytest.raises(InvalidDelay, match="write 250ms"):
        read_delay(text)
