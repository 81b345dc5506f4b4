"""Streams of one pool that do not change, and what is done to them: features, answers and labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from driftline.online_models.drift import Drift, DriftManager, Monitoring
from driftline.online_models.tasks.task import Binary, Label

DELAY = 200
"""Requests between a request and its label."""


class Ask:
    """The request."""


TASK = Binary("b", ask=Ask, label=Label(Ask, on="id", value=lambda event: event, wait=1.0))


class Asked(NamedTuple):
    """One request: features, the model's answer, and the truth."""

    x: dict[str, Any]
    p: float
    y: bool


Fault = Callable[[int, Asked, np.random.Generator], Asked]
"""What becomes of request number so and so."""


def stream(seed: int, count: int, fault: Fault | None = None) -> Iterator[Asked]:
    """Fifteen features: slow, heavy-tailed, rare, bounded, 5 % missing; p follows two of them.

    `late_1h` and `queue` remember (AR(1) of .9 and .995), `amount` is of Student's t of 3 degrees.
    """
    random = np.random.default_rng(seed)
    size = 4096
    slow, slower = 0.0, 0.0
    for start in range(0, count, size):
        normal = random.standard_normal((size, 8))
        uniform = random.random((size, 8))
        heavy = random.standard_t(3, size)
        skewed = np.exp(random.standard_normal(size))
        for row in range(min(size, count - start)):
            z, u = normal[row].tolist(), uniform[row].tolist()
            slow = 0.9 * slow + math.sqrt(1 - 0.9**2) * z[0]
            slower = 0.995 * slower + math.sqrt(1 - 0.995**2) * z[1]
            x: dict[str, Any] = {
                "late_1h": slow,
                "queue": 20 + 4 * slower,
                "amount": 50 + 10 * float(heavy[row]),
                "distance": 100 * float(skewed[row]),
                "wind": 10 + 3 * z[2],
                "hour": 24 * u[0],
                "cancelled": float(u[1] < 0.01),
                "step": float(int(u[2] * 5)),
                "near": z[3] * 1e-3,
                "sum": z[2] + z[3],
                "level": round(8 + z[4]),
                "carrier": "ABCDEFGH"[min(int(-math.log(u[3] + 1e-12) * 1.5), 7)],
                "kind": "rare" if u[4] < 0.002 else "usual",
                "flag": u[5] < 0.3,
            }
            if u[6] < 0.95:
                x["missing"] = z[5]
            p = 1 / (1 + math.exp(-(0.8 * (x["wind"] - 10) / 3 + 0.5 * slow - 0.8)))
            asked = Asked(x, p, u[7] < p)
            yield asked if fault is None else fault(start + row, asked, random)


def watched(monitoring: Monitoring, requests: Iterator[Asked], delay: int = DELAY) -> Iterator[Drift]:
    """What the monitors tell, labels coming `delay` requests later."""
    manager = DriftManager(monitoring, TASK, ["m"])
    waiting: list[Asked] = []
    for offset, asked in enumerate(requests):
        yield from manager.observe(asked.x, asked.p, float(offset), offset)
        waiting.append(asked)
        if offset >= delay:
            then = offset - delay
            _, p, y = waiting[then]
            waiting[then] = waiting[0]
            loss = TASK.loss(y, p)
            yield from manager.learn(y, p, loss, (loss,), float(then), then, float(offset), offset, (p,))
