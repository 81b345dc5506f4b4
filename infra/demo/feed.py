"""Feeds a case's own source to its log, never far ahead of the worker that folds it.

A year that is sent at once would let a worker run months ahead in one partition; so close together,
what it reports belongs to one stretch of event time, and the broker holds no backlog.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

from driftline.infra.local.bootstrap import bootstrap_of
from driftline.infra.processes.slot import status_path
from driftline.infra.settings import Settings
from driftline.streams.clients.producer import EventProducer
from driftline.streams.declare.usecase import UseCase, load_case
from driftline.streams.simulation.sources import open_source, with_closing_clock

LEAST_LEAD = 20_000
LEAD_SECONDS = 3.0
"""The lead is what the worker folds in this time: its status is up to a second old."""
CHECK_EVERY = 1_000
GIVE_UP_AFTER = 120.0


class Pace:
    """Holds the producer back while it is too many records ahead of the status at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0.0
        self._folded = 0
        self._rate = 0.0

    def wait(self, sent: int) -> None:
        """Return when `sent` records are close enough, or the worker has stood still for long."""
        given_up = time.monotonic() + GIVE_UP_AFTER
        while True:
            before = self._folded
            self._look()
            if sent - self._folded <= max(LEAST_LEAD, LEAD_SECONDS * self._rate):
                return
            if self._folded > before:
                given_up = time.monotonic() + GIVE_UP_AFTER
            elif time.monotonic() > given_up:
                return
            time.sleep(0.05)

    def _look(self) -> None:
        try:
            status = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return
        folded = sum(status["next_offsets"].values())
        if status["at"] > self._at:
            if self._at:
                self._rate = (folded - self._folded) / (status["at"] - self._at)
            self._at, self._folded = status["at"], folded


def feed(case: UseCase, settings: Settings, limit: int | None = None) -> int:
    """Send `limit` events (default: all) and a closing clock; returns how many records were sent."""
    pace = Pace(status_path(settings, case.name))
    broadcast = case.codec().broadcast
    sent = 0
    with EventProducer(case, bootstrap_of(settings), namespace=settings.namespace) as producer:
        events = with_closing_clock(case, open_source(case, None, limit))
        for number, event in enumerate(events):
            producer.send(event)
            sent += case.partitions if type(event) in broadcast else 1
            if number % CHECK_EVERY == 0:
                pace.wait(sent)
    return sent


def main() -> None:
    """`python -m driftline.infra.demo.feed module:attribute [--limit N] [--partitions P]`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("case")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--partitions", type=int)
    given = parser.parse_args()
    case = load_case(given.case)
    if given.partitions is not None:
        case = replace(case, partitions=given.partitions)
    print(f"{feed(case, Settings.read(), given.limit):,} records sent")


if __name__ == "__main__":
    main()
