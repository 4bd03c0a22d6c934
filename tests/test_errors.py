"""Every error has a code of its own and a heading in ERRORS.md."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from playhead import errors

PAGE = Path(__file__).parent.parent / "runtime" / "playhead" / "ERRORS.md"


def classes() -> list[type[errors.PlayheadError]]:
    return [
        found
        for _, found in inspect.getmembers(errors, inspect.isclass)
        if issubclass(found, errors.PlayheadError) and found.__module__ == errors.__name__
    ]


class TestErrors:
    def test_each_class_has_a_code_of_its_own(self) -> None:
        codes = [found.__dict__.get("code") for found in classes()]
        assert None not in codes
        assert len(codes) == len(set(codes))

    def test_page_has_each_error_and_no_other(self) -> None:
        headings = set(re.findall(r"^## (PH\d{3} \w+)$", PAGE.read_text(), re.MULTILINE))
        assert headings == {f"{found.code} {found.__name__}" for found in classes()}

    def test_tree_in_the_docstring_names_every_class(self) -> None:
        assert errors.__doc__ is not None
        assert {found.__name__ for found in classes()} - set(re.findall(r"\w+", errors.__doc__)) == set()
