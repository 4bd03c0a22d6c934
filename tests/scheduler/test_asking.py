"""What is asked of a scheduler that is not there."""

from __future__ import annotations

import pytest

from playhead.errors import SchedulerSilent
from tests.scheduler.place import Place


async def test_caller_is_told_under_which_id_the_timer_is_found_if_it_is_moved_later(place: Place) -> None:
    timer = await place.send(1, delay={"seconds": 60})
    with pytest.raises(SchedulerSilent) as told:
        await place.while_time_passes(place.client.reschedule_event(timer, delay={"seconds": 90}), 12)
    new = told.value.message.rstrip(".").rpartition(" ")[2]
    await place.start()
    assert await place.while_time_passes(place.client.cancel_event(timer)) is False
    assert await place.while_time_passes(place.client.cancel_event(new)) is True
