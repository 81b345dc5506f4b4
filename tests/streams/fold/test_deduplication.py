"""An event is known by its type, its id and its content for the horizon, wherever it is remembered."""

from __future__ import annotations

import pickle
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftline.errors import StateUnreadable
from driftline.features.state import key_index
from driftline.features.state.event_time import NEVER
from driftline.features.state.segment_store import IN_MEMORY, SegmentStore
from driftline.streams.checkpoints.segment_files import SegmentFolders, SegmentLost
from driftline.streams.code.state_hash import state_hash
from driftline.streams.fold import deduplication, intake
from driftline.streams.fold.deduplication import SeenEvents
from driftline.streams.fold.processor import PartitionProcessor, pickled
from driftline.streams.records.outputs import KINDS, Outputs
from driftline.streams.simulation.sources import LogRecord
from tests.streams.fold.shop_log import Log, case

HORIZON = 6.0
FOLDER = "00000"


def on_disk(folder: Path) -> SegmentStore:
    return SegmentFolders(folder, 0).store(FOLDER)


def again(seen: SeenEvents, store: SegmentStore) -> SeenEvents:
    """As a checkpoint has it."""
    return SeenEvents.again(pickle.loads(pickled(seen)), store)


def test_what_came_before_time_began_is_known_when_it_has() -> None:
    seen = SeenEvents(10.0)
    seen.add("t", "first", 1, NEVER, 995.0)
    seen.add("t", "second", 1, 1_000.0, 1_000.0)
    assert seen.find("t", "first", 1, 1_005.0) == "duplicate"
    assert seen.find("t", "first", 1, 1_005.1) == "new"


def test_an_event_is_known_for_just_the_horizon() -> None:
    for wait, known in ((0.0, "duplicate"), (10.0, "duplicate"), (10.1, "new")):
        seen = SeenEvents(10.0)
        seen.add("asked", "first", 1, 0.0)
        seen.add("asked", "a", 1, 5.0)
        assert seen.find("asked", "a", 1, 5.0 + wait) == known
        assert seen.find("asked", "b", 1, 5.0) == "new"


@given(
    accepted=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 30)), max_size=60),
    forgotten=st.sets(st.integers(0, 30)),
    most=st.sampled_from([3, 20, 1_000]),
)
@settings(max_examples=50)
def test_a_forgotten_event_is_new_wherever_it_was(
    accepted: list[tuple[str, int]], forgotten: set[int], most: int
) -> None:
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setattr(deduplication, "MOST_IN_DICTS", most)
        store = on_disk(Path(folder))
        seen = SeenEvents(1_000.0, store)
        for number, (tag, event_id) in enumerate(accepted):
            seen.add(tag, str(event_id), 7, float(number))
            seen.retain(float(number))
        seen.forget("a", [str(event_id) for event_id in forgotten])
        for known in (seen, again(seen, store)):
            for tag, event_id in accepted:
                expected = "new" if tag == "a" and event_id in forgotten else "duplicate"
                assert known.find(tag, str(event_id), 7, 100.0) == expected
        seen.add("a", "9", 7, 100.0)
        assert seen.find("a", "9", 7, 100.0) == "duplicate"


def test_an_event_is_known_by_its_type_and_its_id() -> None:
    seen = SeenEvents(10.0)
    seen.add("asked", "a", 1, 0.0)
    assert seen.find("settled", "a", 1, 0.0) == "new"
    assert seen.find("asked", "a", 2, 0.0) == "other content"
    seen.add("settled", "a", 2, 0.0)
    assert [seen.find(tag, "a", 2, 0.0) for tag in ("asked", "settled")] == ["other content", "duplicate"]


STEPS = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.sampled_from(["asked", "settled"]),
        st.sampled_from("abcdefgh"),
        st.integers(0, 1),
        st.sampled_from(["go on", "go on", "retain", "retain", "to disk", "to memory"]),
    ),
    max_size=60,
)


@settings(max_examples=300)
@given(steps=STEPS, most=st.integers(1, 6), stays=st.booleans())
def test_answers_depend_on_the_horizon_alone_wherever_events_are(
    steps: list[tuple[int, str, str, int, str]], most: int, stays: bool
) -> None:
    with pytest.MonkeyPatch.context() as patched, TemporaryDirectory() as folder:
        patched.setattr(deduplication, "MOST_IN_DICTS", most)
        disk = on_disk(Path(folder))
        seen = SeenEvents(HORIZON, IN_MEMORY if stays else disk)
        accepted: dict[tuple[str, str], tuple[float, int]] = {}
        now = 0.0
        for ahead, tag, name, content, then in steps:
            now += ahead
            at, known = accepted.get((tag, name), (NEVER, -1))
            expected = "duplicate" if known == content else "other content"
            assert seen.find(tag, name, content, now) == (expected if now - at <= HORIZON else "new")
            if now - at > HORIZON:
                seen.add(tag, name, content, now)
                accepted[tag, name] = now, content
            if then == "retain":
                seen.retain(now)
                assert len(seen) <= 2 * (1 + HORIZON) * 16
            elif then != "go on":
                before = state_hash(seen)
                seen = again(
                    seen, disk if then == "to disk" else SegmentFolders(Path(folder), None).store(FOLDER)
                )
                assert state_hash(seen) == before


MANY = 20_000


def many(store: SegmentStore, count: int) -> SeenEvents:
    """As many as an hour of a busy partition brings; a second time each is asked for."""
    seen = SeenEvents(float(count), store)
    for number in range(count):
        seen.add("payment", f"payment-{number:08d}", number, float(number))
        if number % intake.RETAIN_EVERY == 0:
            seen.retain(float(number))
    return seen


def test_many_are_found_in_files_and_cost_little_memory_and_checkpoint(tmp_path: Path) -> None:
    count = 300_000
    seen = many(on_disk(tmp_path), count)
    last = float(count - 1)
    assert all(seen.find("payment", f"payment-{n:08d}", n, last) == "duplicate" for n in range(0, count, 977))
    assert seen.find("payment", "payment-00000007", 8, last) == "other content"
    assert seen.find("disputed", "payment-00000007", 7, last) == "new"
    packed = seen.packed_size
    assert count - packed.held < 2 * deduplication.MOST_IN_DICTS
    assert packed.bytes_each < 16
    assert len(pickled(seen)) < 40 * (count - packed.held) + 200 * len(seen.segments())
    seen.retain(2.5 * count)
    assert seen.segments() == []
    assert seen.packed_size.held == 0


def test_an_index_forgets_segments_that_are_gone() -> None:
    seen = SeenEvents(5_000.0)
    for number in range(40_000):
        seen.add("t", f"e{number}", 1, float(number))
        if number % intake.RETAIN_EVERY == 0:
            seen.retain(float(number))
    assert seen._packed._index.entries < 4 * 5_000


def test_events_are_found_in_a_process_that_hashes_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = many(on_disk(tmp_path), MANY)
    monkeypatch.setattr(key_index, "_PROBE", "of another process")
    other = again(seen, on_disk(tmp_path))
    assert all(other.find("payment", f"payment-{n:08d}", n, 0.0) == "duplicate" for n in range(0, 20_000, 97))


def test_a_file_that_changed_gives_no_answer(tmp_path: Path) -> None:
    seen = many(on_disk(tmp_path), MANY)
    for path in tmp_path.rglob("segments/*"):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(StateUnreadable, match="changed while it was in use"):
        [seen.find("payment", f"payment-{n:08d}", n, 0.0) for n in range(20_000)]
    with pytest.raises(SegmentLost, match="torn or was altered"):
        again(seen, on_disk(tmp_path))


def repeated_log() -> list[LogRecord]:
    """Requests and labels, of which many come again, sooner or later, some with another content."""
    random, log = Random(5), Log()
    for number in range(1_500):
        minute = number * 0.5
        log.ask(minute, f"o{number}", amount=float(number % 7), id=f"e{number}")
        log.settle(minute + 0.25, f"o{max(0, number - 20)}", bad=number % 2, id=f"e{number}")
        if random.random() < 0.3:
            log.raw(log.records[-1 - min(int(random.expovariate(0.005)), len(log.records) - 1)].value)
        if random.random() < 0.05:
            log.ask(minute, f"o{number}", amount=9.0, id=f"e{max(0, number - random.randrange(300))}")
    return log.records


def folded(through: list[PartitionProcessor], log: list[LogRecord]) -> list[tuple[object, ...]]:
    """What processors put out that follow each other, each from where the one before was stopped."""
    out, begin = Outputs(), 0
    ends = [len(log) * (1 + turn) // len(through) for turn in range(len(through))]
    for turn, (processor, end) in enumerate(zip(through, ends, strict=True)):
        if turn:
            processor.restore(pickle.loads(through[turn - 1].snapshot()))
        for at in range(begin, end, 53):
            out.extend(processor.step(log[at : min(at + 53, end)]))
        begin = end
    return [(kind, o.offset, o.ordinal, o.value, o.headers) for kind in KINDS for o in getattr(out, kind)]


def test_a_fold_is_the_same_wherever_its_ids_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, declared = repeated_log(), case(dedup_horizon=2 * 3600.0)
    plain = [PartitionProcessor(declared, 0)]
    expected = folded(plain, log)
    counts = plain[0].counts()
    assert counts["duplicates"] > 100
    assert sum("came with the id" in str(line) for line in expected) > 10
    monkeypatch.setattr(deduplication, "MOST_IN_DICTS", 8)
    monkeypatch.setattr(intake, "RETAIN_EVERY", 10)
    stores = [on_disk(tmp_path), on_disk(tmp_path), SegmentFolders(tmp_path, None).store(FOLDER), IN_MEMORY]
    packed = [PartitionProcessor(declared, 0, store=store) for store in stores]
    assert folded(packed, log) == expected
    assert packed[-1].counts() == counts
    assert packed[0].segments()
    assert packed[-1].sizes()[f"{intake.IDS}, packed"].held > 100
