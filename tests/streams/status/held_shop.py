"""A shop whose checkpoints take as long as a test wants them to."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import shop

from driftline import Event, Member, PerKey

GATE = "HELD_SHOP_GATE"
"""The variable that names a FIFO: while it is there, a checkpoint waits until somebody writes to it."""
is_forked = False
"""Whether this process was forked from the one that imported this, as the writer of a checkpoint is. Which
process it is would be part of the code that answers, and each worker would have other code."""
KEYS = 10_000
FAILS_EVERY = 1_000
COSTLY = 1_100
"""Requests of one shop which take 5 s of CPU together, so that a checkpoint of its partition is worth it."""


def _note_fork() -> None:
    global is_forked
    is_forked = True


os.register_at_fork(after_in_child=_note_fork)


class Held:
    """An estimator that cannot answer some requests, needs long for others, and is pickled when it may."""

    def learn_one(self, x: dict[str, Any], y: bool) -> None: ...

    def predict_proba_one(self, x: dict[str, Any]) -> dict[bool, float]:
        if x["amount"] < 0:
            raise ValueError("no amount is negative")
        if x["amount"] > 100:
            sum(range(250_000))
        return {True: 0.25}

    def __getstate__(self) -> dict[str, Any]:
        if GATE in os.environ and is_forked:
            with suppress(FileNotFoundError):
                open(os.environ[GATE], "rb").close()
        return {}


def asked() -> Iterator[Event]:
    """Within the hour of the windows: a request of each of many keys, then those that cost."""
    for n in range(KEYS):
        yield shop.asked(n, n / 400, f"s{n}", amount=-1.0 if n % FAILS_EVERY == 0 else 1.0)
    for n in range(KEYS, KEYS + COSTLY):
        yield shop.asked(n, n / 400, "costly", amount=1_000.0)


orders = replace(
    shop.orders,
    name="held",
    partitions=3,
    models=PerKey(champion=Member("held", Held)),
    source="tests.streams.status.held_shop:asked",
)
