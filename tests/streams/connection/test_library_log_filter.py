"""A user's log has what a user can do something about."""

from __future__ import annotations

import logging

import pytest
from aiokafka.errors import GroupAuthorizationFailedError, GroupCoordinatorNotAvailableError

from driftline.streams.connection.library_log_filter import leave_out_what_passes

COORDINATION = logging.getLogger("aiokafka.consumer.group_coordinator")
TIMERS = logging.getLogger("mode.timers")
GROUPS = logging.getLogger("kafka.admin._groups")


def test_a_coordinator_on_its_way_and_a_late_timer_are_not_reported_and_other_trouble_is(
    caplog: pytest.LogCaptureFixture,
) -> None:
    leave_out_what_passes()
    COORDINATION.error("Group Coordinator Request failed: %s", GroupCoordinatorNotAvailableError())
    COORDINATION.warning("Marking the coordinator dead (node %s)for group %s.", 1, "g")
    COORDINATION.error("Group Coordinator Request failed: %s", GroupAuthorizationFailedError("g"))
    TIMERS.warning("Timer %s is overlapping (interval=%r runtime=%r)", "commit", 1.0, 2.0)
    TIMERS.warning("Timer %s failed", "commit")
    GROUPS.warning("Unable to decode member_metadata for orders.worker/one")
    GROUPS.warning("another problem of the group")
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING", "WARNING"]
    assert "GroupAuthorizationFailedError" in caplog.text
    assert "failed" in caplog.records[1].message
