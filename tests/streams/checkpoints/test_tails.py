"""Where an output partition ends, after its broker has lost some of it."""

from __future__ import annotations

import asyncio

from driftline.streams.checkpoints.tails import OutputMark, read_tail
from driftline.streams.records.ports import Place
from driftline.streams.records.positions import NOTHING
from tests.streams.owner.memory import MemoryBroker

MODELS = Place("orders.models", 0)


def test_an_output_that_lies_where_a_checkpoint_counted_markers_is_the_tail() -> None:
    """The checkpoint saw three markers and no output. Two of them were lost, and an output with the marker
    of the next fence came in their place: by its end alone, the topic is as it was."""
    broker = MemoryBroker()
    mark = OutputMark("orders.models#0", 3, NOTHING, -1)
    broker.at(MODELS).append(None)
    broker.add(MODELS, b"k", b"an output", (("source", b"40:0"),))
    broker.at(MODELS).append(None)

    async def tail_position() -> tuple[int, int]:
        extents = await broker.extents([MODELS])
        return (await read_tail(broker, MODELS, extents[MODELS], mark)).position

    assert asyncio.run(tail_position()) == (40, 0)
