"""The drift budget: how many false alarms are promised at most, and how much evidence an alarm needs for
that."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from math import log

import msgspec


class AlarmBudget(msgspec.Struct, frozen=True):
    """The promise, at most one false alarm in so many requests, and the result: requests and confirmed
    incidents so far; `evidence` is what each monitor needs for an alarm."""

    false_alarm_every: int
    requests: int
    incidents: int
    monitors: int
    evidence: float


@cache
def _table() -> tuple[list[float], list[float]]:
    """(evidence, ln of the blocks between false alarms of one monitor), both rising; see `calibration`."""
    text = resources.files("driftline.online_models.drift").joinpath("thresholds.json").read_text("utf-8")
    table = json.loads(text)["table"]
    return [row["evidence"] for row in table], [row["log_blocks"] for row in table]


def evidence_for(blocks: float) -> float:
    """The evidence that one monitor exceeds once in so many blocks of a stationary stream. Linear in the
    logarithm between the table's rows, and beyond its ends.
    """
    evidence, log_blocks = _table()
    wanted = log(blocks)
    row = 1
    while row < len(evidence) - 1 and log_blocks[row] < wanted:
        row += 1
    share = (wanted - log_blocks[row - 1]) / (log_blocks[row] - log_blocks[row - 1])
    return evidence[row - 1] + share * (evidence[row] - evidence[row - 1])
