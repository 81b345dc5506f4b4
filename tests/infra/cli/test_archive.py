"""What `driftline archive` says when it ends."""

from __future__ import annotations

from driftline.infra.cli.service import written


def test_an_archiver_says_what_it_wrote_and_why_that_is_nothing() -> None:
    assert written(1_200, None, once=True) == "1,200 parts written"
    assert written(0, None, once=False) == "0 parts written"
    assert "all of its 50,000 offsets are there, and none" in written(0, None, once=True)
    assert "all of its 10 offsets are there, and none" in written(0, 10, once=True)
