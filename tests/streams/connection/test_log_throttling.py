"""What libraries log again and again is passed on now and then."""

from __future__ import annotations

import logging

from driftline.streams.connection.log_throttling import REPORT_EVERY, Repeats


def passed(filtering: Repeats, name: str, message: str, *arguments: object) -> str | None:
    record = logging.LogRecord(name, logging.ERROR, __file__, 1, message, arguments, None)
    return record.getMessage() if filtering.filter(record) else None


def test_a_librarys_line_is_reported_once_and_later_with_how_often_it_came() -> None:
    now = 0.0
    filtering = Repeats(lambda: now)
    line = ("aiokafka.conn", "Unable connect to node with id %d: %s")
    assert passed(filtering, *line, 1, "refused") == "Unable connect to node with id 1: refused"
    assert passed(filtering, *line, 2, "refused") is None
    assert passed(filtering, *line, 1, "refused") is None
    assert passed(filtering, *line, 1, "no route") == "Unable connect to node with id 1: no route"
    now = REPORT_EVERY
    again = passed(filtering, *line, 1, "refused")
    assert again == "Unable connect to node with id 1: refused (and 2 times more since it was last said)"


def test_what_driftline_says_is_always_reported() -> None:
    filtering = Repeats()
    assert [passed(filtering, "driftline.worker", "partition 0 is refused") for _ in range(2)] == [
        "partition 0 is refused"
    ] * 2
