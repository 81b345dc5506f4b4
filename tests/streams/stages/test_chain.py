"""A case of several keys as a chain of folds: whatever the order in which its records meet."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parcels import Sent, by_courier, events, parcels

from driftline import HOUR, Event, UseCase, mean
from driftline.examples.payments import payments
from driftline.streams.between.sender import Send
from driftline.streams.between.stage_record import Accepted, decode_record
from driftline.streams.between.writers import Writers
from driftline.streams.errors import DeclarationError, StreamsError
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.records.messages import Outcome, Prediction
from driftline.streams.records.outputs import Outputs
from driftline.streams.simulation.simulate import simulate
from driftline.streams.simulation.sources import laid_out, layout, with_closing_clock
from driftline.streams.stages.chain import Chain
from driftline.streams.stages.stage_fold import StageFold
from tests.streams.stages.delivery import Delivery, labels_of


def delivered(
    seed: int, crashes: int = 0, partitions: int = 3, number: int = 120, *, careful: bool = True
) -> Delivery:
    """A run over parcels, whose records reach the stages as `seed` decides."""
    chain = Chain(parcels, partitions)
    delivery = Delivery(chain, seed, careful=careful)
    happened = with_closing_clock(parcels, events(number, seed))
    for partition, record in laid_out(parcels, happened, partitions, chain.itinerary.entry):
        delivery.write(partition, record.key, record.value)
    delivery.run(crashes)
    return delivery


def in_one_partition(number: int, seed: int) -> Outputs:
    happened = with_closing_clock(parcels, events(number, seed))
    return PartitionProcessor(parcels, 0).step([record for _, record in layout(parcels, happened, 1)])


def check(delivery: Delivery, number: int, seed: int) -> None:
    """Every request is answered once, and has the label that time's order gives it."""
    assert delivery.torn == []
    published = delivery.published()
    assert Counter(p.event_id for p in published.predictions) == {f"s{i}": 1 for i in range(number)}
    assert published.letters == {}
    outcomes = [msgspec.json.decode(o.value, type=Outcome) for o in in_one_partition(number, seed).outcomes]
    assert labels_of(published.outcomes) == labels_of(outcomes)


@settings(max_examples=25)
@given(st.integers(0, 2**32), st.integers(0, 12), st.integers(2, 5))
def test_every_request_is_answered_once_and_joined_with_its_label_whatever_meets_in_which_order(
    seed: int, crashes: int, partitions: int
) -> None:
    check(delivered(seed, crashes, partitions), 120, seed)


def check_some(*, careful: bool = True) -> None:
    for seed in range(10):
        check(delivered(seed, 12, careful=careful), 120, seed)


def take_all(writers: Writers, record: Any) -> bool:
    """As `Writers.take`, of a reader that does not drop what has come before."""
    TAKE(writers, record)
    return True


def take_the_largest(writers: Writers, record: Any) -> bool:
    """As `Writers.take`, where one writer is enough for time to move on."""
    taken = TAKE(writers, record)
    writers.watermark = max(heard.watermark for heard in writers.state().values())
    return taken


TAKE = Writers.take


@pytest.mark.parametrize("mutation", [take_all, take_the_largest])
def test_a_reader_that_takes_repeats_and_a_watermark_as_the_largest_are_noticed(
    mutation: Callable[..., bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Writers, "take", mutation)
    with pytest.raises(AssertionError):
        check_some()


def test_a_writer_that_starts_past_what_is_appended_is_noticed() -> None:
    with pytest.raises(AssertionError):
        check_some(careful=False)


def test_what_a_stage_sends_and_puts_out_depends_on_no_cut_into_steps_and_on_no_restart() -> None:
    """Each stage's topic as the chain has it, folded in steps of other lengths, the state pickled between."""
    chain = Chain(parcels, 2, rows=True)
    topics: dict[tuple[int, int], list[Accepted]] = {}
    appended = chain._appended

    def recorded(target: Any, value: bytes) -> Any:
        record = appended(target, value)
        topics.setdefault(target, []).append(Accepted(record.offset, None, value))
        return record

    chain._appended = recorded  # type: ignore[method-assign]
    happened = list(with_closing_clock(parcels, events(200)))
    for partition, laid in laid_out(parcels, happened, 2, chain.itinerary.entry):
        topics.setdefault((0, partition), []).append(Accepted(laid.offset, laid.key, laid.value))
        list(chain.step(partition, laid))
    for place, topic in topics.items():
        steps = [folded_in_steps(chain, place, topic, length) for length in (1, 7, len(topic))]
        assert steps[0] == steps[1] == steps[2]


def folded_in_steps(
    chain: Chain, place: tuple[int, int], topic: list[Accepted], length: int
) -> tuple[Outputs, list[Send]]:
    """What a partition of a stage puts out and sends, by a new instance for every hundredth record or so."""
    fold, out, sends = StageFold(parcels, chain.itinerary, *place, rows=True), Outputs(), []
    for number, first in enumerate(range(0, len(topic), length)):
        step = fold.step(topic[first : first + length])
        out.extend(step)
        sends += step.sends
        if number % (100 // length + 1) == 0:
            snapshot = fold.snapshot()
            fold = StageFold(parcels, chain.itinerary, *place, rows=True)
            fold.restore(pickle.loads(snapshot))
    return out, sends


def test_every_view_has_its_rows_from_the_stage_of_its_key() -> None:
    chain = Chain(parcels, 3, rows=True)
    rows: dict[Any, Any] = {}
    stages: dict[str, set[int]] = {}
    for partition, record in laid_out(parcels, events(100), 3, chain.itinerary.entry):
        for step in chain.step(partition, record):
            rows |= step.outputs.rows
            for view, _ in step.outputs.rows:
                stages.setdefault(view, set()).add(step.stage)
    assert stages == {"parcels_by_sender": {0}, "parcels_by_depot": {1}, "parcels_by_courier": {2}}
    one = PartitionProcessor(parcels, 0, rows=True)
    assert rows == one.step([record for _, record in layout(parcels, events(100), 1)]).rows


def test_requests_have_the_features_of_one_partition_and_each_stage_adds_its_own() -> None:
    predictions: dict[str, Any] = {}

    def take(_: int, out: Outputs) -> None:
        for output in out.predictions:
            found = msgspec.json.decode(output.value, type=Prediction)
            predictions[found.event_id] = found.features

    simulate(parcels, partitions=4, on_outputs=take)
    in_stages, predictions = predictions, {}
    simulate(parcels, on_outputs=take)
    assert in_stages == predictions
    assert list(in_stages["s9"]) == list(predictions["s9"])


def test_a_simulation_is_a_function_of_the_log_and_its_figures_are_those_of_one_partition() -> None:
    found, one = simulate(payments, partitions=4, limit=8_000), simulate(payments, limit=8_000)
    assert simulate(parcels, partitions=4)["digests"] == simulate(parcels, partitions=4)["digests"]
    for name in ("events", "predictions", "labelled", "void", "pending", "dead_letters", "unmatched"):
        assert found[name] == one[name]
    for name in ("log_loss", "brier"):
        assert found["models"]["logistic"][name] == pytest.approx(one["models"]["logistic"][name], abs=0.002)


def test_what_a_stage_cannot_count_is_reported_by_the_last_one() -> None:
    def heavy(sent: Event) -> float:
        if sent.id == "s5":
            raise ValueError("no scale")
        return 1.0

    case = replace(parcels, features={**parcels.features, "heavy": mean(Sent, heavy, by="depot", over=HOUR)})
    letters = []
    result = simulate(case, partitions=2, on_outputs=lambda _, out: letters.extend(out.dead_letters))
    assert result["dead_letters"] == 1
    assert result["predictions"] == 299
    [letter] = letters
    assert dict(letter.headers)["stage"] == b"features"
    assert b"no scale" in dict(letter.headers)["reason"]
    assert b'"id":"s5"' in letter.value


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (replace(parcels, models=by_courier), "Broken lacks 'courier', which decides its pool of models"),
    ],
)
def test_a_case_whose_events_do_not_find_their_way_is_refused(case: UseCase, reason: str) -> None:
    with pytest.raises(DeclarationError, match=reason):
        simulate(case, partitions=2)


def test_one_stage_is_no_chain() -> None:
    with pytest.raises(DeclarationError, match="is one stage, and no chain"):
        Chain(parcels, 1)


def test_a_record_of_another_version_or_of_nobody_is_no_event() -> None:
    for value in (None, b"\x93", b"\x97\x03\x00\x00\x00\x00\x00\xcb" + bytes(8)):
        with pytest.raises(StreamsError, match="a record between stages"):
            decode_record(value)
    chain = Chain(parcels, 2)
    [send, *_] = (
        chain.stages[0][0]
        .step([record for p, record in laid_out(parcels, events(50), 2, chain.itinerary.entry) if p == 0])
        .sends
    )
    with pytest.raises(StreamsError, match="the topic is of another declaration"):
        Chain(parcels, 2).stages[0 + 2][0].step([Accepted(0, None, send.value)])
