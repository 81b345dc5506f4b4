"""The examples as the lab needs them."""

from __future__ import annotations

from dataclasses import replace

from driftline.examples.flights import flights
from driftline.examples.payments import payments

flights_anew = replace(flights, max_event_bytes=flights.max_event_bytes + 1)
"""Other code that answers the same: an upgrade to it can be judged as everything else."""
flights_live = replace(flights, clock="wall", source=None)
"""Events come as they happen: the lab sends those of the source, each with the time of its sending."""
payments_on_4 = replace(payments, partitions=4)
"""A chain of four stages: cards, merchants, devices, and one model for all."""
payments_on_3 = replace(payments, partitions=3)
"""The same where each of three workers has a share: of 4 partitions two workers have all."""
payments_live = replace(
    payments,
    partitions=8,
    clock="wall",
    source=None,
    task=replace(payments.task, label=replace(payments.task.label, wait=10.0)),
)
"""The same as it happens, on more partitions: who has disputed nothing within seconds never will."""
