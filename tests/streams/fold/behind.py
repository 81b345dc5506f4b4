"""Orders of a shop whose bad ones are settled later from some time on."""

from __future__ import annotations

import random
from collections.abc import Iterator

from shop import asked, settled

from driftline import Event

ORDERS, BEHIND = 13_000, 9_000
"""Orders, a minute apart; from which one on labels of bad ones take six times as long."""


def events() -> Iterator[Event]:
    rng = random.Random(3)
    waiting: list[tuple[float, int, float]] = []
    for n in range(ORDERS):
        amount = rng.uniform(1.0, 7.0)
        bad = float(rng.random() < amount / 14.0)
        delay = rng.expovariate(1.0 / 60.0) * (6.0 if bad and n >= BEHIND else 1.0)
        waiting.append((n + min(delay, 1_000.0), n, bad))
        waiting.sort()
        yield asked(n, n, amount=amount)
        while waiting and waiting[0][0] < n + 1:
            minute, order, was_bad = waiting.pop(0)
            yield settled(order, max(minute, n), bad=was_bad)
