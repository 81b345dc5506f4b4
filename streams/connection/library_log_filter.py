"""Leaves out log lines of libraries about problems that they solve themselves and a user can do nothing
about."""

from __future__ import annotations

import logging

from aiokafka.errors import (
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
)

_PASSING = (GroupCoordinatorNotAvailableError, GroupLoadInProgressError, NotCoordinatorForGroupError)


def leave_out_what_passes() -> None:
    """Have this process's log leave out a group's coordinator that is still loading, which aiokafka waits
    for, with the line that it looks for it once more (a lost connection has its own), timers of mode
    that are late on a busy machine, and the assignments of Faust's workers, which kafka-python cannot read
    when it is asked who is in their group."""
    logging.getLogger("aiokafka.consumer.group_coordinator").addFilter(_is_no_missing_coordinator)
    logging.getLogger("mode.timers").addFilter(_is_no_late_timer)
    logging.getLogger("kafka.admin._groups").addFilter(_is_no_assignment)


def _is_no_missing_coordinator(record: logging.LogRecord) -> bool:
    if record.msg.startswith("Marking the coordinator dead"):
        return False
    args = record.args if isinstance(record.args, tuple) else ()
    return not any(isinstance(one, _PASSING) for one in args)


def _is_no_late_timer(record: logging.LogRecord) -> bool:
    return "is overlapping" not in record.msg


def _is_no_assignment(record: logging.LogRecord) -> bool:
    return not record.msg.startswith("Unable to decode member_")
