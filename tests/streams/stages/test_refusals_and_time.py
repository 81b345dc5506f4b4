"""What a chain refuses and whom it tells, and how far time is for it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any

import msgspec
import pytest
from parcels import START, WAIT, Broken, Closed, Sent, Withdrawn, by_courier, events, parcels

from driftline import HOUR, Binary, Event, Label, Member, Multiclass, Shared, UseCase, count, mean
from driftline.streams.between.sender import Sender
from driftline.streams.between.stage_record import Writer, decode_record
from driftline.streams.declare.commands import new_command, new_key
from driftline.streams.declare.events import Clock, Command
from driftline.streams.errors import REASON_BYTES, Refused
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.records.output_size import CLASSES, LONGEST_CLASS
from driftline.streams.records.outputs import Outputs, Target
from driftline.streams.simulation.chain_simulation import SilentPartitionWarning
from driftline.streams.simulation.recording import Recorded
from driftline.streams.simulation.simulate import simulate
from driftline.streams.simulation.sources import laid_out, layout, with_homes
from driftline.streams.stages.chain import Chain


class BrokenOf(Event, tag="broken"):
    parcel: str
    courier: str


labels_of_courier = Label(BrokenOf, on="parcel", value=lambda _: True, wait=WAIT, at_expiry=False)
of_couriers = replace(
    parcels,
    events=[Sent, BrokenOf, Closed],
    task=Binary("breaks", ask=Sent, label=labels_of_courier),
    models=by_courier,
)
"""Parcels whose labels know the courier that a pool of models is for; closings of a depot know none."""


def happened() -> Iterator[Event]:
    couriers = {}
    for event in events():
        if isinstance(event, Sent):
            couriers[event.parcel] = event.courier
        if isinstance(event, Broken):
            yield BrokenOf(id=event.id, at=event.at, parcel=event.parcel, courier=couriers[event.parcel])
        elif not isinstance(event, Withdrawn):
            yield event


def folded(case: UseCase, source: str, partitions: int) -> list[tuple[int, Outputs]]:
    """(partition, outputs) of every step of a simulation."""
    out: list[tuple[int, Outputs]] = []
    simulate(case, source, partitions=partitions, on_outputs=lambda *one: out.append(one))
    return out


def letters(case: UseCase, source: str, partitions: int) -> set[tuple[bytes, bytes | None]]:
    return {
        (dict(letter.headers)["reason"], letter.value)
        for _, out in folded(case, source, partitions)
        for letter in out.dead_letters
    }


def test_a_refusal_in_the_middle_of_an_event_without_a_place_in_the_last_stage_is_reported() -> None:
    def heavy(closed: Event) -> float:
        if closed.id.endswith("0"):
            raise ValueError("no scale")
        return 1.0

    heavier = mean(Closed, heavy, by="depot", over=HOUR)
    case = replace(of_couriers, features={**of_couriers.features, "heavy": heavier})
    found = letters(case, f"{__name__}:happened", 3)
    assert len(found) > 1
    assert found == letters(case, f"{__name__}:happened", 1)


def test_a_command_for_one_pool_is_answered_once_by_the_partition_of_its_key() -> None:
    private, public = new_key()
    case = replace(of_couriers, operators={"ann": public})
    for pool in ("courier0", "courier1", "courier2", "courier3", "nobody"):
        command = new_command(case.name, "ann", private, "freeze", pool=pool)
        answers = {n: answers_to(command, case, n) for n in (1, 3)}
        assert len(answers[1]) == 1
        assert answers[3] == answers[1]


def answers_to(command: Command, case: UseCase, partitions: int) -> list[str]:
    """What is said of a command at the end of the log."""
    chain = Chain(case, partitions) if partitions > 1 else None
    log = [*happened(), command]
    if chain is None:
        records = [record for _, record in layout(case, log, 1)]
        out = [PartitionProcessor(case, 0).step(records)]
    else:
        placed = laid_out(case, log, partitions, chain.itinerary.entry)
        out = [step.outputs for place, record in placed for step in chain.step(place, record)]
    said = [msgspec.json.decode(model.value)["reason"] for one in out for model in one.models]
    return [reason for reason in said if "by ann" in reason]


def recorded() -> Iterator[Recorded]:
    """The parcels as one partition had them, with a clock event of its worker."""
    for event in events():
        yield Recorded(0, round(event.at.timestamp() * 1000), event)
        if event.id == "s100":
            yield Recorded(0, round(event.at.timestamp() * 1000), Clock(id="clock", at=event.at))


def bare() -> Iterator[Event]:
    return (one.event for one in recorded())


def test_a_log_of_one_partition_is_placed_by_key_in_a_chain_and_keeps_its_append_times() -> None:
    found = simulate(parcels, f"{__name__}:recorded", partitions=4)
    assert found["digests"] == simulate(parcels, f"{__name__}:bare", partitions=4)["digests"]
    home = Chain(parcels, 4).itinerary.entry
    placed = list(laid_out(parcels, with_homes(parcels, recorded(), 4, home), 4, home))
    assert len({partition for partition, _ in placed}) == 4
    times = {round(event.at.timestamp() * 1000) for event in events()}
    assert {record.timestamp for _, record in placed} == times


def test_a_log_of_several_partitions_keeps_what_is_for_each_where_it_was() -> None:
    case = replace(of_couriers, key="courier", events=[Sent, BrokenOf], features={}, partitions=3)
    clock = Recorded(2, 7, Clock(id="clock", at=START))
    assert list(with_homes(case, [clock], 3, lambda _: (None, None))) == [clock]


def of_one_sender() -> Iterator[Event]:
    return (event for event in events() if isinstance(event, Sent) and event.sender == "sender1")


def test_a_partition_of_the_log_without_events_is_warned_of() -> None:
    with pytest.warns(SilentPartitionWarning, match=r"no events in partitions of the log: \d, \d"):
        simulate(parcels, f"{__name__}:of_one_sender", partitions=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error", SilentPartitionWarning)
        simulate(parcels, partitions=3)


def in_disorder() -> Iterator[Event]:
    """Requests whose times leap ahead and are confirmed by others that are behind them."""
    random, now = Random(3), 0.0
    skew = parcels.clock_skew
    for i in range(3000):
        now += random.expovariate(1) if random.random() < 0.9 else random.uniform(0, 5 * skew)
        at = START + timedelta(seconds=round(now - random.choice([0, 0, random.uniform(0, skew)]), 6))
        yield Sent(id=f"s{i}", at=at, parcel=f"p{i}", sender="a", depot="b", courier="c", weight=1.0)


def test_no_record_tells_a_time_beyond_its_own_event() -> None:
    chain = Chain(parcels, 2)
    sent = []
    for partition, record in laid_out(parcels, in_disorder(), 2, chain.itinerary.entry):
        sends = chain.stages[0][partition].step([record]).sends
        sent += [one for one in (decode_record(send.value) for send in sends) if one.event]
    assert len(sent) > 1000
    decode = msgspec.json.Decoder(Sent).decode
    assert [one for one in sent if one.watermark > decode(one.event).at.timestamp()] == []


class Sorted(Event, tag="sorted"):
    parcel: str
    box: str


class Silent:
    """A model that gives no class a probability."""

    def learn_one(self, x: dict[str, Any], y: str) -> None: ...

    def predict_proba_one(self, x: dict[str, Any]) -> dict[str, float]:
        return {}


def sorted_ones() -> Iterator[Event]:
    """One class for each parcel, a few more than an answer has room for."""
    for i in range(2 * CLASSES // LONGEST_CLASS + 10):
        at = START + timedelta(seconds=i)
        yield Sent(id=f"s{i}", at=at, parcel=f"p{i}", sender=f"{i}", depot="b", courier="c", weight=1.0)
        box = f"{i}-" + "c" * (LONGEST_CLASS // 2)
        yield Sorted(id=f"l{i}", at=at + timedelta(seconds=0.5), parcel=f"p{i}", box=box)


def test_classes_are_as_many_as_an_answer_has_room_for_on_several_partitions_too() -> None:
    sorting = replace(
        parcels,
        events=[Sent, Sorted],
        features={"with_courier": count(Sent, by="courier", over=HOUR)},
        task=Multiclass("box", ask=Sent, label=Label(Sorted, on="parcel", value=lambda e: e.box, wait=WAIT)),
        models=Shared(Member("silent", Silent)),
    )
    found = letters(sorting, f"{__name__}:sorted_ones", 3)
    assert 0 < len(found) < 20
    assert all(b"one class too many" in reason for reason, _ in found)
    assert found == letters(sorting, f"{__name__}:sorted_ones", 1)


def test_a_repeat_goes_no_further_than_the_log() -> None:
    chain = Chain(parcels, 2)
    log = list(laid_out(parcels, events(100), 2, chain.itinerary.entry))
    sends = [len(chain.stages[0][partition].step([record]).sends) for partition, record in log]
    assert sum(sends) > 100
    for partition, record in log:
        again = record._replace(offset=record.offset + len(log))
        assert chain.stages[0][partition].step([again]).sends == []


def test_what_a_topic_between_stages_would_not_take_is_refused_before_it_is_sent() -> None:
    reader = Target(1, 0)
    sender = Sender(Writer(0, 0), [reader], step=1.0)
    sender.begin(7, 0.0)
    sender.send(reader, b"{}", {"name": "short"})
    with pytest.raises(Refused, match="there is room for") as refused:
        sender.send(reader, b"{}", {f"name_{n}": "c" * 60_000 for n in range(40)})
    reason = "r" * 100_000
    sender.send(reader, b"{}", refused=Refused(refused.value.stage, reason))
    sent = [decode_record(value) for _, value in sender.take()]
    assert [(one.number, one.ordinal) for one in sent] == [(1, 0), (2, 1)]
    assert sent[1].refused == ("size", reason[:REASON_BYTES])
