"""Which wall-clock times a cron expression names."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from itertools import islice

import pytest

from playhead.cron import MAX_EXPRESSION_CHARS, parse_cron
from playhead.errors import InvalidSchedule


def days(expression: str, start: str, number: int) -> list[str]:
    """The first days that it falls on."""
    walls = islice(parse_cron(expression).walls(datetime.fromisoformat(start), 1), number)
    return [wall.date().isoformat() for wall in walls]


def times(expression: str, day: str) -> list[str]:
    """The times of that day."""
    walls = parse_cron(expression).walls(datetime.fromisoformat(day), 1)
    return [wall.strftime("%H:%M") for wall in islice(walls, 1440) if wall.date().isoformat() == day]


class TestFields:
    def test_lists_ranges_and_steps(self) -> None:
        found = times("5,10-12,*/30 8-12/4 * * *", "2026-01-01")
        assert found == [f"{hour}:{minute}" for hour in ("08", "12") for minute in ("00", "05", "10", "11", "12", "30")]

    def test_number_with_a_step_goes_on_from_there(self) -> None:
        assert times("5/20 23 * * *", "2026-01-01") == ["23:05", "23:25", "23:45"]

    def test_names_are_numbers_in_either_case(self) -> None:
        assert days("0 0 * jan-Mar mon", "2026-01-01", 30) == days("0 0 * 1-3 1", "2026-01-01", 30)

    def test_sunday_is_0_and_7_and_ends_a_week(self) -> None:
        assert days("0 0 * * 0", "2026-01-01", 9) == days("0 0 * * 7", "2026-01-01", 9)
        assert days("0 0 * * FRI-SUN", "2026-01-01", 9) == days("0 0 * * 0,5,6", "2026-01-01", 9)

    @pytest.mark.parametrize(
        ("nickname", "expression"),
        [
            ("@hourly", "0 * * * *"),
            ("@daily", "0 0 * * *"),
            ("@Midnight", "0 0 * * *"),
            ("@weekly", "0 0 * * SUN"),
            ("@monthly", "0 0 1 * *"),
            ("@yearly", "0 0 1 1 *"),
            ("@annually", "0 0 1 1 *"),
        ],
    )
    def test_nickname_stands_for_an_expression(self, nickname: str, expression: str) -> None:
        assert parse_cron(nickname) == parse_cron(expression)


class TestDays:
    def test_either_of_two_restricted_days_is_enough(self) -> None:
        assert days("0 0 13 * FRI", "2026-03-01", 4) == ["2026-03-06", "2026-03-13", "2026-03-20", "2026-03-27"]
        assert days("0 0 10 * FRI", "2026-03-05", 3) == ["2026-03-06", "2026-03-10", "2026-03-13"]

    def test_both_have_to_match_where_one_begins_with_a_star(self) -> None:
        assert days("0 0 */12 * FRI", "2026-01-01", 3) == ["2026-02-13", "2026-03-13", "2026-05-01"]

    def test_last_day_of_the_month(self) -> None:
        assert days("0 0 L * *", "2027-12-01", 4) == ["2027-12-31", "2028-01-31", "2028-02-29", "2028-03-31"]
        assert days("0 0 31 * *", "2026-01-01", 4) == ["2026-01-31", "2026-03-31", "2026-05-31", "2026-07-31"]

    def test_second_and_last_weekday_of_the_month(self) -> None:
        assert days("0 0 * * TUE#2", "2026-01-01", 3) == ["2026-01-13", "2026-02-10", "2026-03-10"]
        assert days("0 0 * * 5L", "2026-01-01", 3) == ["2026-01-30", "2026-02-27", "2026-03-27"]
        assert days("0 0 * * MON#5", "2026-01-01", 3) == ["2026-03-30", "2026-06-29", "2026-08-31"]

    def test_leap_days_of_a_century_leave_out_2100(self) -> None:
        leap_years = [year for year in range(2026, 2126) if date(year, 3, 1) - date(year, 2, 1) == timedelta(29)]
        found = days("0 0 29 2 *", "2026-01-01", len(leap_years))
        assert found == [f"{year}-02-29" for year in leap_years]
        assert "2096-02-29" in found
        assert "2100-02-29" not in found


class TestRefusals:
    @pytest.mark.parametrize("expression", ["0 0 31 2 *", "0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 31 feb */2"])
    def test_day_that_never_comes_is_refused(self, expression: str) -> None:
        with pytest.raises(InvalidSchedule, match="never fires"):
            parse_cron(expression)

    @pytest.mark.parametrize(
        ("expression", "why"),
        [
            ("60 * * * *", "minute '60' is not from 0 to 59"),
            ("0 25 * * *", "hour '25' is not from 0 to 23"),
            ("0 0 0 * *", "day of month '0' is not from 1 to 31"),
            ("0 0 * FOO *", "month 'FOO' is not from 1 to 12, or a name from JAN to DEC"),
            ("0 0 * * 8", "day of week '8' is not from 0 to 7, or a name from SUN to SAT"),
            ("5-1 * * * *", "minute '5-1' ends before it begins"),
            ("*/0 * * * *", "minute '\\*/0' has no step"),
            ("*/ * * * *", "minute '\\*/' has no step"),
            ("1,,2 * * * *", "minute '' is not"),
            ("٣ * * * *", "minute '٣' is not"),
            ("-1 * * * *", "minute '' is not"),
            ("0 0 L/2 * *", "day of month 'L' is not"),
            ("0 0 * * L", "day of week 'L' is not"),
            ("0 0 * * FRI#6", "day of week 'FRI#6': a month has a first to a fifth"),
            ("0 0 * * 1-5#2", "day of week '1-5' is not"),
            ("0 * * * * *", "has 6 fields, not 5"),
            ("", "has 0 fields"),
            ("@reboot", "has 1 fields"),
            ("0," * MAX_EXPRESSION_CHARS, "at most 200 characters"),
            (None, "is a text"),
        ],
    )
    def test_message_says_what_is_wrong_in_which_field(self, expression: str, why: str) -> None:
        with pytest.raises(InvalidSchedule, match=why) as raised:
            parse_cron(expression)
        assert raised.value.remedy


class TestWalls:
    def test_go_either_way_from_a_time_that_counts(self) -> None:
        """Downwards they are the same in reverse, across days that it does not fall on."""
        cron = parse_cron("15,45 6 1,L * *")
        up = list(islice(cron.walls(datetime(2026, 1, 31, 6, 45), 1), 20))  # noqa: DTZ001 (a wall time)
        down = list(islice(cron.walls(up[-1], -1), 20))
        assert (len(up), down) == (20, up[::-1])

    def test_end_with_the_years_that_a_datetime_has(self) -> None:
        cron = parse_cron("0 0 30 12 *")
        assert [wall.year for wall in cron.walls(datetime(9998, 1, 1), 1)] == [9998, 9999]  # noqa: DTZ001 (a wall time)
        assert [wall.year for wall in cron.walls(datetime(3, 1, 1), -1)] == [2, 1]  # noqa: DTZ001 (a wall time)
