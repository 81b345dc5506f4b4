"""Sources from files, the closing clock, and the layout of a log; simulation from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import shop

from driftline.examples.flights import flights
from driftline.streams.clients.schema import topic_schemas
from driftline.streams.declare.events import Clock, Command
from driftline.streams.declare.partitioning import partition_of
from driftline.streams.errors import DeclarationError, StreamsError
from driftline.streams.simulation.simulate import Simulation, simulate
from driftline.streams.simulation.sources import layout, open_log, open_source, with_closing_clock
from driftline.streams.simulation.tables import UnreadableTable

EVENTS = 6_000


@pytest.fixture(scope="module")
def jsonl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "flights.jsonl"
    codec = flights.codec()
    with path.open("wb") as lines:
        for event in open_source(flights, None, EVENTS):
            lines.write(codec.encode(event) + b"\n")
    return path


def test_a_file_gives_what_the_source_gives_in_every_format_and_chunk(jsonl: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import csv, parquet

    read = [json.loads(line) for line in jsonl.read_bytes().splitlines()]
    names = sorted({name for row in read for name in row})
    rows = pa.table({name: [row.get(name) for row in read] for name in names})
    parquet.write_table(rows, tmp_path / "flights.parquet")
    csv.write_csv(rows, tmp_path / "flights.csv")
    expected = simulate(flights, limit=EVENTS)["digest"]
    assert simulate(flights, str(jsonl), chunk=7)["digest"] == expected
    assert simulate(flights, str(tmp_path / "flights.parquet"), chunk=1)["digest"] == expected
    assert simulate(flights, str(tmp_path / "flights.csv"))["digest"] == expected


def test_the_command_prints_one_object_and_the_hash_seed_changes_nothing() -> None:
    def run(seed: str, chunk: str) -> dict[str, object]:
        done = subprocess.run(
            [
                *(
                    sys.executable,
                    "-m",
                    "driftline",
                    "simulate",
                    "driftline.examples.flights:flights",
                ),
                *("--limit", str(EVENTS), "--chunk", chunk, "--json"),
            ],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        return dict(json.loads(done.stdout))

    first, second = run("1", "500"), run("2", "13")
    assert first["digest"] == second["digest"]
    assert first["digests"] == second["digests"]
    assert first["models"] == second["models"]
    expected = {
        "case", "events", "predictions", "labelled", "unlabelled", "void", "pending", "dead_letters",
        "duplicates", "late", "drift_events", "seconds", "events_per_second", "cpu_us_per_event", "models",
        "digest", "digests",
    }  # fmt: skip
    assert set(first) >= expected
    assert first["predictions"] == first["labelled"] + first["unlabelled"] + first["void"]  # type: ignore[operator]


def test_a_log_keeps_the_order_and_broadcasts_references_and_clocks() -> None:
    events = list(with_closing_clock(flights, open_source(flights, None, 4_000)))
    records = list(layout(flights, events, 3))
    for partition in range(3):
        offsets = [record.offset for p, record in records if p == partition]
        assert offsets == list(range(len(offsets)))
    assert all(p == partition_of(r.key, 3) for p, r in records if r.key is not None)
    assert isinstance(events[-1], Clock)
    copies = Counter(r.value for _, r in records if r.key is None)
    assert set(copies.values()) == {3}


@pytest.mark.parametrize("partitions", [1, 2, 5])
def test_a_closing_clock_ends_waits_that_are_longer_than_the_longest_step(partitions: int) -> None:
    case = replace(shop.orders, max_jump=600.0)
    unsettled = (event for event in shop.trade(300) if isinstance(event, shop.Asked))
    simulation = Simulation(case, partitions)
    for number, record in layout(case, with_closing_clock(case, unsettled), partitions):
        simulation.step(number, [record])
    counts = simulation.summary().counts
    assert case.task.label.wait > case.max_jump
    assert counts["predictions"] == counts["unlabelled"] > 0
    assert (counts["pending"], counts["dead_letters"]) == (0, 0)


def test_a_source_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DeclarationError, match="does not exist"):
        next(open_source(flights, str(tmp_path / "none.jsonl")))
    with pytest.raises(DeclarationError, match="module:attribute"):
        next(open_source(flights, "nonsense"))


def test_a_module_and_a_source_that_would_end_the_process_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ending_module.py").write_text("import sys\nsys.exit(0)\n")
    (tmp_path / "ending_source.py").write_text("import sys\ndef events():\n    yield 1\n    sys.exit(0)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DeclarationError, match=r"ending_module\.py, line 2: SystemExit: 0"):
        open_source(flights, "ending_module:events")
    with pytest.raises(StreamsError, match=r"source ending_source:events ended early: .*SystemExit\(0\)"):
        list(open_log(flights, "ending_source:events"))


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ({"type": "Asked"}, r"Invalid value 'Asked' .*Did you mean 'asked'\?"),
        ({"amuont": 1}, r"unknown field `amuont`\. Did you mean 'amount'\?"),
        ({"at": "2026-01-01T00:00:00"}, r"timezone component .*: a time is RFC 3339 with a zone, such as"),
    ],
)
def test_what_may_have_been_meant_by_a_wrong_line_is_named(
    tmp_path: Path, wrong: dict[str, object], hint: str
) -> None:
    asked = {
        "type": "asked",
        "id": "a",
        "at": "2026-01-01T00:00:00Z",
        "order": "o",
        "shop": "s",
        "amount": 1.0,
    }
    (tmp_path / "bad.jsonl").write_text(json.dumps(asked | wrong))
    with pytest.raises(UnreadableTable, match=rf"bad.jsonl, line 1: .*{hint}"):
        list(open_source(shop.orders, str(tmp_path / "bad.jsonl")))


def test_a_file_of_another_kind_is_refused_with_what_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "rides.xlsx").write_bytes(b"PK")
    with pytest.raises(UnreadableTable, match=r"rides\.xlsx: only \.csv, .* and \.parquet can be read"):
        list(open_source(flights, str(tmp_path / "rides.xlsx")))


def test_a_wrong_line_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('\n{"type": "nobody"}\n')
    with pytest.raises(UnreadableTable, match=r"bad.jsonl, line 2: .*nobody"):
        next(open_source(flights, str(tmp_path / "bad.jsonl")))


def test_every_topic_has_a_schema() -> None:
    schemas = topic_schemas(flights, "team")
    assert sorted(schemas) == sorted(spec.name for spec in flights.topics("team").all())
    assert {"scheduled", "clock"} <= {
        definition["properties"]["type"]["enum"][0]
        for definition in schemas["team.flights.events"]["$defs"].values()
        if "type" in definition.get("properties", {})
    }


@pytest.mark.parametrize("minutes", [24 * 60, 3 * 366 * 24 * 60])
def test_the_closing_clock_is_not_moved_by_an_event_whose_time_the_others_contradict(minutes: int) -> None:
    ordinary = [shop.asked(n, n) for n in range(200)]
    wrong = shop.asked(900, 100 + minutes)
    *_, clock = with_closing_clock(shop.orders, iter(ordinary))
    *_, despite = with_closing_clock(shop.orders, iter([*ordinary[:100], wrong, *ordinary[100:]]))
    assert despite == clock
    assert isinstance(clock, Clock)


def test_it_is_beyond_a_last_event_that_nothing_confirms_yet() -> None:
    """Bills that come once a month."""
    sparse = [shop.asked(n, n * 30 * 24 * 60) for n in range(5)]
    *_, clock = with_closing_clock(shop.orders, iter(sparse))
    assert isinstance(clock, Clock)
    assert clock.at > sparse[-1].at + timedelta(hours=2)


def test_it_is_not_moved_by_references_and_commands() -> None:
    ordinary = [shop.asked(n, n) for n in range(20)]
    later = shop.START + timedelta(days=400)
    product = shop.Product(id="p", at=later, product="p", weight=1.0)
    command = Command(id="c", at=later, action="freeze", operator="ann", nonce=1)
    *_, clock = with_closing_clock(shop.orders, iter([*ordinary, product, command]))
    assert clock == list(with_closing_clock(shop.orders, iter(ordinary)))[-1]
