"""Outages of the broker while events come as they happen, and the append time says what time it is.

Registered beside those of `faults`; a run is judged in the same way, and nothing may be late.
"""

from __future__ import annotations

import json
import time
from collections import Counter

from tests.faults.courses.broker import BROKER_KILLS
from tests.faults.courses.moves import measure_return
from tests.faults.courses.register import Outcome, fault_of
from tests.faults.lab.run import Run
from tests.faults.lab.stack import LabError

LIVE = "tests.faults.cases:flights_live"
AWAY = 90.0
"""Seconds for which the broker is away: longer than a live case allows its events to be late."""


@fault_of(LIVE)
def live_broker_kill(run: Run) -> Outcome:
    """kill -9 of the broker five times under load."""
    return _away(run, [0.0] * BROKER_KILLS, 60.0)


@fault_of(LIVE)
def live_broker_away(run: Run) -> Outcome:
    """The broker is away for longer than events may be late, while producers hold what happens."""
    return _away(run, [AWAY], AWAY * 1.5)


def _away(run: Run, outages: list[float], lasts: float) -> Outcome:
    """Outages of so many seconds each (and a restart), while the events take so many seconds to happen."""
    run.log_is_the_source = False
    run.pace = len(run.events) / lasts
    worker = run.worker()
    run.until_serving(worker)
    for number, seconds in enumerate(outages):
        run.feed_to((number + 1) / (len(outages) + 1))
        run.until_published((number + run.random.uniform(0.2, 0.9)) / (len(outages) + 1))
        run.feed_to((number + 2) / (len(outages) + 1))  # some happen meanwhile, however long a restart takes
        run.lab.kill_broker()
        run.note(f"the broker was killed, for {seconds:g} s")
        time.sleep(seconds)  # the fault itself
        run.lab.start_broker()
        measure_return(run, "live, broker back", (number + 2.5) / (len(outages) + 1))
    outcome = Outcome(run.settle(worker))
    _none_refused(run)
    return outcome


def _none_refused(run: Run) -> None:
    letters = [dict(record.headers) for records in run.read(run.topics.dead_letters) for record in records]
    if letters:
        stages = Counter(letter["stage"].decode() for letter in letters)
        raise LabError(f"refused: {dict(stages)}, as {letters[0]['reason'].decode()}")
    answered = {json.loads(r.value)["event_id"] for some in run.read(run.topics.predictions) for r in some}
    asked = {event.id for event in run.events if isinstance(event, run.case.task.ask)}
    if answered != asked:
        raise LabError(f"{len(answered)} of {len(asked)} requests are answered")
    run.note(f"{len(asked)} requests, all answered")
