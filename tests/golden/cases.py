"""What the fold makes of cases that use all of it: the figures by which one release's fold is another's."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from driftline.features.state.segment_store import IN_MEMORY
from driftline.features.state.windows.window import SumWindow
from driftline.features.state.windows.window_pages import WindowPacking, WindowPages
from driftline.streams.code.state_hash import state_hash
from driftline.streams.declare.events import Event
from driftline.streams.declare.usecase import UseCase
from driftline.streams.fold.deduplication import MOST_IN_DICTS, SeenEvents
from driftline.streams.fold.inheritance import Bequest, Inheritance
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.records.messages import Prediction
from driftline.streams.records.outputs import KINDS, Output
from driftline.streams.records.positions import headers_of
from driftline.streams.simulation.digest import PartitionDigest, combined
from driftline.streams.simulation.simulate import Simulation
from driftline.streams.simulation.sources import LogRecord, as_warm_up, layout, with_closing_clock
from driftline.streams.waiting.packing import Packing
from driftline.streams.waiting.prediction import PendingPrediction
from driftline.streams.waiting.segment import Segment

sys.path.append(str(Path(__file__).parents[1] / "cases"))

CHUNK = 97


class GoldenCase(NamedTuple):
    """A case, and the events that go through it."""

    case: UseCase
    events: Iterable[Event]


def golden_cases() -> dict[str, GoldenCase]:
    """By name: every kind of feature, of output, of refusal, of command, a warm-up, unequal labels."""
    from changing import changing
    from changing import events as changes
    from kinds import kinds
    from shop import faulty, trade

    from driftline.bench.drift.fraud import chargebacks, fraud

    return {
        "changing": GoldenCase(changing, with_closing_clock(changing, changes())),
        "kinds": GoldenCase(kinds, with_closing_clock(kinds, _with_products(trade(300)))),
        "fraud": GoldenCase(fraud(), with_closing_clock(fraud(), chargebacks(1_000, 1))),
        "faulty": GoldenCase(faulty, with_closing_clock(faulty, trade(300))),
        "warm-up": GoldenCase(
            kinds,
            with_closing_clock(kinds, _after(as_warm_up(kinds, islice(trade(300), 200)), trade(300))),
        ),
    }


def _with_products(events: Iterable[Event]) -> Iterator[Event]:
    """Orders of three products whose weights become known and change; now and then one comes late, twice
    or a day ahead."""
    from shop import Asked, Product

    for n, event in enumerate(events):
        if n % 50 == 0:
            yield Product(id=f"product-{n}", at=event.at, product=f"p{n // 50 % 3}", weight=1.0 + n)
        if isinstance(event, Asked):
            event = replace_fields(event, product=f"p{n % 4}")
        yield event
        if n % 40 == 7:
            yield event
        if n % 60 == 11:
            yield replace_fields(event, id=f"{event.id}-late", at=event.at - timedelta(hours=1))
        if n % 90 == 31:
            yield replace_fields(event, id=f"{event.id}-ahead", at=event.at + timedelta(days=30))


def replace_fields(event: Event, **fields: object) -> Event:
    import msgspec

    return msgspec.structs.replace(event, **fields)


def _after(history: Iterable[Event], events: Iterator[Event]) -> Iterator[Event]:
    """History, then the events that are not part of it."""
    yield from history
    yield from islice(events, 200, None)


def golden() -> dict[str, dict[str, str]]:
    """Digests by case and kind of output, and the hash of what the fold is left with."""
    found = {name: _folded(case) for name, case in golden_cases().items()}
    return found | {"inherited": _inherited(), "stored": _stored()}


def _stored() -> dict[str, str]:
    """Bytes that checkpoints name or hold, whose layout is no part of a state."""
    packing = Packing(("k",), ("a", "b"))
    predictions = [
        PendingPrediction(
            f"e{n}:t", f"e{n}", n / 2, "k", f"p{n}", {"k": "k"}, {"a": 0.5, "b": n}, n + 3.5, number=n
        )
        for n in range(3)
    ]
    window = SumWindow()
    window.add(1.5, 2.0)
    pages = WindowPages(WindowPacking(SumWindow()), IN_MEMORY)
    pages.put([("k", window)])
    contents = {
        "segment": Segment.of(packing, IN_MEMORY, predictions)[0].stored.content,
        "page": pages.stored()[0].content,
        "ids": _packed_ids(),
    }
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def _packed_ids() -> bytes:
    seen = SeenEvents(1e6)
    for number in range(MOST_IN_DICTS):
        seen.add("even" if number % 2 == 0 else "odd", f"e{number}", number, number / 2)
    seen.retain(float(MOST_IN_DICTS))
    content: bytes = seen.stored().segments[0].content
    return content


def _folded(golden_case: GoldenCase) -> dict[str, str]:
    case = golden_case.case
    simulation = Simulation(case)
    processors = simulation.processors
    digests = {kind: [PartitionDigest() for _ in processors] for kind in KINDS}
    states = PartitionDigest()
    waiting: list[list[LogRecord]] = [[] for _ in processors]
    for partition, record in layout(case, golden_case.events, case.partitions):
        waiting[partition].append(record)
        if len(waiting[partition]) == CHUNK:
            _step(simulation, partition, waiting[partition], digests)
            waiting[partition].clear()
    for partition, records in enumerate(waiting):
        # before the end, while predictions wait and windows are full
        states.update(partition, 0, state_hash(processors[partition].state()).encode())
        _step(simulation, partition, records, digests)
    result = {kind: combined(partitions) for kind, partitions in digests.items()}
    return result | {"states": combined([states])}


def _step(
    simulation: Simulation,
    partition: int,
    records: list[LogRecord],
    digests: dict[str, list[PartitionDigest]],
) -> None:
    out = simulation.step(partition, records)
    for kind, partitions in digests.items():
        _tell(partitions[partition], getattr(out, kind))


def _tell(digest: PartitionDigest, outputs: Iterable[Output]) -> None:
    for output in outputs:
        headers = b"".join(b"%s=%s;" % (name.encode(), value) for name, value in headers_of(output))
        content = b"|".join((output.key or b"", headers, output.value))
        digest.update(output.offset, output.ordinal, content)


def _inherited() -> dict[str, str]:
    """New code takes over from other code, which refused a request, answered the others, and did not come to
    all outcomes."""
    import msgspec
    from shop import orders, orders_anew, trade

    old, new = (replace(case, partitions=1) for case in (orders, orders_anew))
    records = [record for _, record in layout(old, trade(100), 1)]
    published = PartitionProcessor(old, 0).step(records[:150])
    decode = msgspec.json.Decoder(Prediction).decode
    answered = {output.offset: decode(output.value) for output in published.predictions}
    del answered[min(answered)]
    bequest = Bequest(
        *(
            (outputs[-1].offset, outputs[-1].ordinal)
            for outputs in (published.predictions, published.outcomes)
        ),
        furthest=149,
        asked=[range(150)],
    )
    inheritance = Inheritance(PartitionProcessor(new, 0))
    out = inheritance.step(records, bequest, answered, [output.value for output in published.outcomes])
    digests = {kind: PartitionDigest() for kind in KINDS}
    for kind, digest in digests.items():
        _tell(digest, getattr(out, kind))
    return {kind: combined([digest]) for kind, digest in digests.items()}
