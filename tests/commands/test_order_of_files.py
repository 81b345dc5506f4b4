"""Files that wait for a broker and files that compute take turns."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import taking_turns

FILES = [Path(name) for name in "abcdefghi"]


def test_files_that_wait_are_spread_evenly_among_the_others_which_come_last() -> None:
    places = taking_turns(FILES, {Path(name) for name in "abc"})
    assert "".join(str(path) for path in sorted(FILES, key=places.__getitem__)) == "daefbgchi"


def test_where_all_or_none_wait_the_order_stays() -> None:
    for waiting in (set(FILES), set[Path]()):
        places = taking_turns(FILES, waiting)
        assert sorted(FILES, key=places.__getitem__) == FILES
