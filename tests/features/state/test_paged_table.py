"""What is read does not depend on which windows are in memory, and a page that was changed is not read."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from driftline.errors import StateUnreadable
from driftline.features.state.segment_store import IN_MEMORY, MemoryBudget, SegmentStore
from driftline.features.state.windows import paged_table, window_pages, window_paging
from driftline.features.state.windows.paged_table import PagedBoundedTable, PagedTable, PagedTables
from driftline.features.state.windows.stepped_window import SteppedSumWindow
from driftline.features.state.windows.window import (
    CountWindow,
    DecayedWindow,
    DistinctWindow,
    EventWindow,
    LatestWindow,
    MaxWindow,
    SquareWindow,
    SumWindow,
)
from driftline.features.state.windows.window_columns import attributes_of
from driftline.features.state.windows.window_pages import WindowPacking
from driftline.features.state.windows.window_table import BoundedTable, WindowTable
from driftline.streams.checkpoints.segment_files import SegmentFolders
from driftline.streams.fold.processor import pickled

OVER = 50.0
KEYS = range(200)
VALUES = (1.0, 2.5, 3.0, 1e18)
FOLDER = "00000"
Read = Callable[[Any, float, float], Any]
KINDS: list[tuple[type[EventWindow], tuple[Any, ...], Read]] = [
    (CountWindow, (), CountWindow.count),
    (SumWindow, (), SumWindow.mean),
    (SquareWindow, (), SquareWindow.std),
    (LatestWindow, (), LatestWindow.latest),
    (MaxWindow, (), MaxWindow.max),
    (DecayedWindow, (20.0,), DecayedWindow.mean),
    (DistinctWindow, (3,), DistinctWindow.distinct),
    (SteppedSumWindow, (), SteppedSumWindow.mean),
]


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_pages, "PAGE", 8)
    monkeypatch.setattr(window_paging, "PAGE", 8)
    monkeypatch.setattr(paged_table, "PAGE", 8)
    monkeypatch.setattr(window_paging, "MEASURED_EVERY", 4)


def on_disk(folder: Path, windows: int) -> SegmentStore:
    return SegmentFolders(folder, 0, windows).store(FOLDER)


def paged(store: SegmentStore, kind: type[EventWindow], arguments: tuple[Any, ...]) -> WindowTable:
    table = (
        PagedBoundedTable(kind, arguments, None) if kind is DistinctWindow else PagedTable(kind, arguments)
    )
    assert store.budget is not None
    table.page(store, store.budget)
    table.keep_for(OVER)
    return table


def plain(kind: type[EventWindow], arguments: tuple[Any, ...]) -> WindowTable:
    table = BoundedTable(kind, arguments, None) if kind is DistinctWindow else WindowTable(kind, arguments)
    table.keep_for(OVER)
    return table


def put(table: WindowTable, key: Any, at: float, value: Any) -> None:
    if isinstance(table, BoundedTable):
        table.put(key, at, value)
    else:
        table[key].add(at, value)


def values(table: WindowTable, read: Read, at: float) -> list[Any]:
    """What is read of each key, with no window moved."""
    found = []
    for key in KEYS:
        window = table.peeker()(f"k{key}")
        has_any = window is not None and CountWindow.count(window, at, at - OVER)
        found.append(read(window, at, at - OVER) if has_any else None)
    return found


def asked(table: WindowTable, read: Read, key: str, at: float) -> Any:
    """What a request reads; expired values are as none, whether their window is left or not."""
    window = table.get(key)
    has_any = window is not None and CountWindow.count(window, at, at - OVER)
    return read(window, at, at - OVER) if has_any else None


class Op(NamedTuple):
    """A value put under a key, and another key that is read then."""

    number: int
    key: str
    value: float
    asks: str


def ops(random: Random, numbers: range) -> list[Op]:
    """Operations of which some keys have many and some few."""
    return [
        Op(
            number,
            f"k{int(random.triangular(0, len(KEYS), 0))}",
            random.choice(VALUES),
            f"k{random.randrange(len(KEYS))}",
        )
        for number in numbers
    ]


def apply(tables: list[WindowTable], read: Read, some: list[Op]) -> None:
    """Put the same into all, and read the same from all."""
    for number, key, value, asks in some:
        at = number / 10
        for table in tables:
            put(table, key, at, value)
        first, *others = [asked(table, read, asks, at) for table in tables]
        assert others == [first] * len(others)
        if number % 20 == 19:
            for table in tables:
                table.retain(at)


def go_on(tables: list[WindowTable], read: Read, random: Random, numbers: range) -> None:
    apply(tables, read, ops(random, numbers))


@pytest.mark.parametrize(("kind", "arguments", "read"), KINDS)
@pytest.mark.parametrize("limit", [0, 20_000, 10**9])
def test_what_is_read_is_the_same_wherever_windows_are(
    kind: type[EventWindow], arguments: tuple[Any, ...], read: Read, limit: int, tmp_path: Path
) -> None:
    some, all_there = paged(on_disk(tmp_path, limit), kind, arguments), plain(kind, arguments)
    random = Random(3)
    for begin in range(0, 3_000, 500):
        go_on([some, all_there], read, random, range(begin, begin + 500))
        at = begin / 10 + 50.0
        assert values(some, read, at) == values(all_there, read, at)
        found = {key: window.ats[-1] for key, window in some.windows() if window.ats[-1] > at - OVER}
        assert found == {k: window.ats[-1] for k, window in all_there.items() if window.ats[-1] > at - OVER}
    assert (some.held > some.held_in_memory) == (limit < 10**9)
    for turn in range(200):
        some.retain(10_000.0 + turn)
    assert some.held == 0
    assert some.segments() == []


@pytest.mark.parametrize(("kind", "arguments", "read"), KINDS)
def test_a_snapshot_is_gone_on_from_on_disk_and_in_memory(
    kind: type[EventWindow], arguments: tuple[Any, ...], read: Read, tmp_path: Path
) -> None:
    store = on_disk(tmp_path, 20_000)
    before = paged(store, kind, arguments)
    go_on([before], read, Random(4), range(1_000))
    assert before.segments()
    again, in_memory = paged(store, kind, arguments), plain(kind, arguments)
    put(again, "k1", 99.0, VALUES[0])  # nothing of its own is left
    again.restore(pickle.loads(pickle.dumps(before)), store)
    in_memory.restore(pickle.loads(pickle.dumps(before)), SegmentFolders(tmp_path, None).store(FOLDER))
    assert in_memory.held == before.held
    go_on([before, again, in_memory], read, Random(5), range(1_000, 2_000))
    back = paged(store, kind, arguments)
    back.restore(pickle.loads(pickle.dumps(in_memory)), store)
    go_on([in_memory, back], read, Random(6), range(2_000, 2_500))
    assert back.held > back.held_in_memory


def checkpoint(table: WindowTable) -> tuple[bytes, list[str]]:
    """What a checkpoint writes, and the files that it has packed windows into."""
    names: list[list[str]] = []
    content = pickled(table, names)
    return content, names[0]


def restored(
    content: bytes, kind: type[EventWindow], arguments: tuple[Any, ...], store: SegmentStore
) -> WindowTable:
    """A table that goes on from a snapshot; all in memory if the store has no budget."""
    table = plain(kind, arguments) if store.budget is None else paged(store, kind, arguments)
    table.restore(pickle.loads(content), store)
    return table


@pytest.mark.parametrize(("kind", "arguments", "read"), KINDS)
@pytest.mark.parametrize("limit", [0, 20_000, 10**9])
def test_checkpoints_pack_what_changed_and_are_gone_on_from_whatever_becomes_of_them(
    kind: type[EventWindow], arguments: tuple[Any, ...], read: Read, limit: int, tmp_path: Path
) -> None:
    store = on_disk(tmp_path, limit)
    in_files = SegmentFolders(tmp_path, None).store(FOLDER)
    table = paged(store, kind, arguments)
    tables, windows = [table, plain(kind, arguments)], PagedTables([table])
    events = ops(Random(8), range(2_000))
    for turn, begin in enumerate(range(0, len(events), 200)):
        apply(tables, read, events[begin : begin + 100])
        assert windows.set_aside()
        assert not windows.set_aside()
        content, names = checkpoint(table)
        while_written = events[begin + 100 : begin + 130]
        apply(tables, read, while_written)
        if turn % 4 == 1:
            windows.put_back()  # it failed
        else:
            lost = turn % 4 == 2
            windows.packed([["" if lost and not number else name for number, name in enumerate(names)]])
        if turn % 3 == 0:
            again, in_memory = (restored(content, kind, arguments, each) for each in (store, in_files))
            assert again.held_in_memory == 0
            apply([again, in_memory], read, while_written)
            tables += [again, in_memory]
        apply(tables, read, events[begin + 130 : begin + 200])
        found = [values(each, read, begin / 10 + 20.0) for each in tables]
        assert found == [found[0]] * len(found)
        if turn % 4 == 1:
            tables += [restored(pickle.dumps(table), kind, arguments, each) for each in (store, in_files)]
    for turn in range(400):
        for each in tables:
            each.retain(10_000.0 + turn)
    assert [each.held for each in tables] == [0] * len(tables)


@pytest.mark.parametrize(("kind", "arguments", "read"), KINDS)
@pytest.mark.parametrize("limit", [0, 30_000, 10**9])
def test_windows_that_come_back_after_a_restore_are_those_that_were_there(
    kind: type[EventWindow], arguments: tuple[Any, ...], read: Read, limit: int, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(window_paging, "READ_AHEAD", 5)
    store = on_disk(tmp_path, limit)
    before, all_there = paged(store, kind, arguments), plain(kind, arguments)
    go_on([before, all_there], read, Random(4), range(1_000))
    again = restored(checkpoint(before)[0], kind, arguments, store)
    windows, came = PagedTables([again]), 0
    assert again.held_in_memory == 0
    for begin in range(1_000, 2_000, 7):
        in_memory = again.held_in_memory
        windows.read_ahead()
        came += again.held_in_memory - in_memory
        go_on([again, all_there], read, Random(begin), range(begin, begin + 7))
        if begin % 200 == 0:
            windows.set_aside()
            windows.packed([checkpoint(again)[1]])
        at = (begin + 7) / 10
        assert values(again, read, at) == values(all_there, read, at)
    assert came > 0
    assert not windows.read_ahead()


def test_windows_come_back_only_while_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_paging, "READ_AHEAD", 5)
    before = paged(on_disk(tmp_path, 10**9), SumWindow, ())
    for number in range(len(KEYS)):
        put(before, f"k{number}", 1.0, float(number))
    content = checkpoint(before)[0]
    came = {}
    for limit in (0, 30_000, 10**9):
        table = restored(content, SumWindow, (), on_disk(tmp_path, limit))
        windows = PagedTables([table])
        while windows.read_ahead():
            pass
        came[limit] = table.held_in_memory
    assert came[0] == window_paging.READ_AHEAD
    assert came[0] < came[30_000] < came[10**9] == len(KEYS)


def test_a_page_that_changes_before_its_windows_come_back_gives_none(tmp_path: Path) -> None:
    store = on_disk(tmp_path, 10**9)
    before = paged(store, CountWindow, ())
    for number in range(len(KEYS)):
        put(before, f"k{number}", 1.0, 1.0)
    table = restored(checkpoint(before)[0], CountWindow, (), store)
    for path in tmp_path.rglob("segments/*"):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    with pytest.raises(StateUnreadable, match="changed while it was in use"):
        PagedTables([table]).read_ahead()


def test_a_page_that_is_gone_before_its_windows_come_back_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_paging, "READ_AHEAD", 5)
    store = on_disk(tmp_path, 10**9)
    before = paged(store, CountWindow, ())
    for number in range(len(KEYS)):
        put(before, f"k{number}", 1.0, 1.0)
    table = restored(checkpoint(before)[0], CountWindow, (), store)
    assert PagedTables([table]).read_ahead()
    for _ in range(400):  # all is expired
        table.retain(1.0 + OVER)
    assert table.held == 0
    assert not PagedTables([table]).read_ahead()
    assert table.held_in_memory == 0
    assert table.get("k7") is None


def test_a_checkpoint_costs_what_changed(tmp_path: Path) -> None:
    table = paged(on_disk(tmp_path, 10**9), SumWindow, ())
    windows = PagedTables([table])

    def packs(*, cleanups: int) -> int:
        windows.set_aside()
        content, names = checkpoint(table)
        windows.packed([names])
        for _ in range(cleanups):
            table.retain(2.0)
        assert table.held_in_memory == table.held == len(KEYS)
        pages = [next(tmp_path.rglob(name)).read_bytes() for name in names]
        assert len(content) < 6_000
        return sum(int.from_bytes(page[:4], "little") for page in pages)

    for number in range(len(KEYS)):
        put(table, f"k{number}", 1.0, float(number))
    assert packs(cleanups=0) == len(KEYS)
    for cleanups in (0, 10, 200):  # it has taken over none of the pages, some, and all
        assert packs(cleanups=cleanups) == 0
        put(table, "k7", 2.0, 1.0)
        assert table.get("k8") is not None  # a read changes nothing
        assert packs(cleanups=0) == 1


def test_windows_that_few_change_at_a_time_are_in_few_pages(tmp_path: Path) -> None:
    table = paged(on_disk(tmp_path, 10**9), SumWindow, ())
    windows = PagedTables([table])
    for number in range(100):
        put(table, f"k{number % 16}", 1.0, float(number))
        windows.set_aside()
        windows.packed([checkpoint(table)[1]])
        for _ in range(4):
            table.retain(2.0)
    assert len(table.segments()) < 16


def test_a_page_that_is_another_while_it_is_in_use_is_not_read(tmp_path: Path) -> None:
    table = paged(on_disk(tmp_path, 0), SumWindow, ())
    for number in range(32):
        put(table, f"k{number}", 1.0, float(number))
    for _ in range(20):
        table.retain(2.0)
    first, second = (path for path in sorted(tmp_path.rglob("segments/*"))[:2])
    other = WindowPacking(SumWindow())
    held = {key for key, _ in table.windows()}
    assert len(held) == 32
    content = first.read_bytes()
    for harm in (content[:-1], content[:-40] + b"?" + content[-39:], second.read_bytes(), b""):
        first.write_bytes(harm)
        reasons = []
        for key in sorted(held):
            try:
                window = table.peeker()(key)
            except StateUnreadable as error:
                reasons.append(str(error))
            else:
                assert window is not None
                assert other.pack(key, window) == other.pack(key, _of(float(key[1:])))
        assert reasons
        assert all(first.name in reason for reason in reasons)
    first.unlink()
    with pytest.raises(StateUnreadable, match=first.name):
        [table.peeker()(key) for key in sorted(held)]


def _of(value: float) -> SumWindow:
    window = SumWindow()
    window.add(1.0, value)
    return window


def test_equal_keys_are_one_and_those_of_one_hash_are_not() -> None:
    class Store:
        budget = MemoryBudget(0)
        keep, again, share = IN_MEMORY.keep, IN_MEMORY.again, IN_MEMORY.share

    table = paged(Store(), CountWindow, ())
    for key in (1, "1", (1, "a"), hash("b"), "b", None):
        table[key].add(1.0, 1.0)
    for _ in range(8):
        table.retain(2.0)
    assert (len(table), table.held) == (0, 6)
    again = paged(Store(), CountWindow, ())
    again.restore(pickle.loads(pickle.dumps(table)), Store())
    table[1.0].add(2.0, 1.0)
    assert table.held == 6
    again[1.0].add(2.0, 1.0)
    assert [len(again[key].ats) for key in (True, "1", (1, "a"), hash("b"), "b", None)] == [2, 1, 1, 1, 1, 1]
    assert [len(table[key].ats) for key in (True, "1", (1, "a"), hash("b"), "b", None)] == [2, 1, 1, 1, 1, 1]
    assert attributes_of(table[1]) == ["ats"]
