"""`driftline produce` tells what became of what it sent, and closes the log only when asked to."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import shop
from hypothesis import given
from hypothesis import strategies as st

from driftline.infra.topics.produce_result import SentOffsets, SentRefusals
from driftline.streams.declare.events import Event


def written(path: Path, events: Iterable[Event]) -> Path:
    codec = shop.orders.codec()
    path.write_bytes(b"\n".join(codec.encode(event) for event in events))
    return path


def test_a_second_produce_is_taken_in_and_what_comes_after_a_closed_log_is_reported_as_refused(
    system_of: Callable[..., Any], eventually: Callable[..., Any], tmp_path: Path
) -> None:
    system = system_of("shop:orders")
    trade = list(shop.trade(60))
    parts = [written(tmp_path / f"{n}.jsonl", trade[40 * n : 40 * n + 40]) for n in range(3)]

    def produced(*arguments: object) -> subprocess.CompletedProcess[str]:
        done: subprocess.CompletedProcess[str] = system.run("produce", "shop:orders", *arguments)
        return done

    unserved = produced(parts[0])
    assert unserved.returncode == 0, unserved.stderr
    assert "no worker serves the case" in unserved.stderr
    worker = system.start()
    eventually(lambda: system.folded(worker))

    second = produced(parts[1], "--close")
    assert second.returncode == 0, second.stderr
    assert "refused" not in second.stderr
    late = produced(parts[2])
    assert late.returncode == 1
    assert "40 events sent" in late.stderr
    assert "40 refused (late), such as: at 2024-01-01T00:4" in late.stderr
    # the worker's status follows within a second
    eventually(lambda: system.status["counts"]["dead_letters"] == 40)
    system.stop(worker)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3)), max_size=60))
def test_the_offsets_sent_are_known_one_by_one(steps: list[tuple[int, int]]) -> None:
    sent, known, offsets = SentOffsets(), set(), dict.fromkeys(range(3), -1)
    for partition, ahead in steps:
        offsets[partition] += ahead
        sent.add(partition, offsets[partition])
        known.add((partition, offsets[partition]))
    everything = {(partition, offset) for partition in range(4) for offset in range(-1, 200)}
    assert {place for place in everything if place in sent} == known
    assert sent.ends() == {p: offset + 1 for p, offset in offsets.items() if offset >= 0}


def test_dead_letters_of_later_stages_are_distinguished_from_those_of_what_was_sent() -> None:
    refusals = SentRefusals(Counter(), behind_the_log=3)
    first, second = refusals.lines("orders")
    assert first.startswith("3 dead letters have come meanwhile from stages behind the log")
    assert second.endswith("driftline dead-letters tail orders")
    assert refusals.refused == 0
