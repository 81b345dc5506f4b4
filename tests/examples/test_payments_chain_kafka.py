"""The payments case on several partitions of a real Kafka: four stages in two workers, one of them killed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import parcels
import pytest

from driftline.features.feast.repository_location import RepositoryLocation
from driftline.features.online.client import FeatureClient
from driftline.streams.between.stage_record import Writer, decode_record
from driftline.streams.owner.deployment import code_of
from driftline.streams.records.messages import Outcome, Prediction
from driftline.streams.records.outputs import Outputs, Target
from driftline.streams.records.positions import headers_of, source_of
from driftline.streams.simulation.simulate import simulate
from driftline.streams.simulation.sources import open_source, with_closing_clock
from driftline.streams.stages.itinerary import itinerary_of
from driftline.streams.stages.stage_fold import StageFold

PATH = "parcels:payments_on_4"
CASE = parcels.payments_on_4
LIMIT = 3_000
KINDS = ("predictions", "outcomes", "drift", "models")
Eventually = Callable[..., Any]


class Refolded:
    """What the recorded order of each stage's topic gives, in one pass without a fault."""

    def __init__(self, system: Any) -> None:
        itinerary = itinerary_of(CASE)
        assert itinerary is not None
        code = code_of(CASE).short
        self.outputs = Outputs()
        self.sends: dict[Target, dict[Writer, list[bytes]]] = {}
        self.appended: dict[Target, dict[Writer, list[bytes]]] = {}
        for number, stage in enumerate(itinerary.plan.stages):
            records = system.read(system.topics.of_stage(stage.topic, code))
            for partition in range(stage.partitions):
                own = [record for record in records if record.partition == partition]
                out = StageFold(CASE, itinerary, number, partition, rows=True).step(own)
                for to, value in out.sends:
                    self.sends.setdefault(to, {}).setdefault(Writer(number, partition), []).append(value)
                if number:
                    self.appended[Target(number, partition)] = first_appearances(own)
                self.outputs.extend(out)


def first_appearances(records: list[Any]) -> dict[Writer, list[bytes]]:
    """What each writer sent, without what it sent again."""
    found: dict[Writer, list[bytes]] = {}
    newest: dict[Writer, tuple[int, int]] = {}
    for record in records:
        sent = decode_record(record.value)
        position = (sent.offset, sent.ordinal)
        if position > newest.get(sent.writer, (-1, -1)):
            newest[sent.writer] = position
            found.setdefault(sent.writer, []).append(record.value)
    return found


def run_and_kill(system: Any, events: list[Any], eventually: Eventually) -> None:
    """Two workers, one of them killed half-way, until every request has its outcome."""
    killed = system.start()
    staying = system.start()
    eventually(lambda: len(system.statuses) == 2 and all(one["partitions"] for one in system.statuses))
    system.produce(events[: LIMIT // 2])
    eventually(lambda: sum(system.ends(system.topics.predictions).values()) > LIMIT // 12)
    killed.kill()
    killed.wait()
    system.produce(events[LIMIT // 2 :])
    requests = sum(isinstance(event, CASE.task.ask) for event in events)
    eventually(lambda: sum(system.ends(system.topics.outcomes).values()) >= requests)
    system.stop(staying)


def check_published(published: Mapping[str, list[Any]], events: list[Any], expected: dict[str, Any]) -> None:
    """Each request is answered once, and has one outcome, as the simulation counts them."""
    requests = Counter(event.id for event in events if isinstance(event, CASE.task.ask))
    predictions = [msgspec.json.decode(record.value, type=Prediction) for record in published["predictions"]]
    assert Counter(one.event_id for one in predictions) == requests
    assert published["dead_letters"] == []
    outcomes = [msgspec.json.decode(record.value, type=Outcome) for record in published["outcomes"]]
    assert Counter(one.prediction_id for one in outcomes) == {one.id: 1 for one in predictions}
    assert Counter(one.status for one in outcomes) == {
        status: expected[status] for status in ("labelled", "unlabelled", "void") if expected[status]
    }


def check_refolded(published: Mapping[str, list[Any]], refolded: Refolded) -> None:
    """What is published, and what each stage has sent, is what the recorded order gives."""
    assert refolded.appended == refolded.sends
    for kind in KINDS:
        given = [(one.key, one.value, headers_of(one)) for one in getattr(refolded.outputs, kind)]
        found = [
            (record.key, record.value, list(record.headers))
            for record in published[kind]
            if source_of(record.headers) is not None  # a code epoch has none
        ]
        assert found == given, kind


def check_audited(system: Any, published: Mapping[str, list[Any]], refolded: Refolded) -> None:
    """`driftline audit` compares all of that, and finds it equal."""
    done = system.run("audit", PATH, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    sent = sum(len(values) for writers in refolded.sends.values() for values in writers.values())
    put_out = sum(source_of(record.headers) is not None for kind in KINDS for record in published[kind])
    assert found["checked"] == found["equal"] == sent + put_out
    assert found["unchecked"] == 0


def check_rows(system: Any, refolded: Refolded) -> None:
    """The newest row of each merchant, which another stage has than the log's, can be read."""
    place = RepositoryLocation.of(CASE.name, system.home, system.namespace, "sqlite", None)
    rows = {key: row for (view, key), row in refolded.outputs.rows.items() if view == "payments_by_merchant"}
    assert rows
    with FeatureClient(CASE, place) as client:
        for (merchant,), (at, values) in rows.items():
            row = client.get("payments_by_merchant", {"merchant": merchant})
            assert row.event_time is not None
            assert row.event_time.timestamp() == pytest.approx(at, abs=1e-6)
            assert {n: v.value for n, v in row.features.items() if v.value is not None} == values


def test_a_chain_answers_each_request_once_settles_every_label_and_goes_on_after_a_kill(
    system_of: Callable[[str], Any], eventually: Eventually
) -> None:
    expected = simulate(CASE, limit=LIMIT)
    events = list(with_closing_clock(CASE, open_source(CASE, None, LIMIT)))
    system = system_of(PATH)
    run_and_kill(system, events, eventually)
    published = {kind: system.read(getattr(system.topics, kind)) for kind in (*KINDS, "dead_letters")}
    check_published(published, events, expected)
    refolded = Refolded(system)
    check_refolded(published, refolded)
    check_audited(system, published, refolded)
    check_rows(system, refolded)
