"""Every record of every topic is what the exported schema says, and a reader made of the schema reads it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from river import linear_model, preprocessing, tree

from driftline.online_models.members.member import Member, PerKey
from driftline.online_models.tasks.task import Label, Multiclass, Regression
from driftline.streams.archive.epochs import CodeEpoch, epoch_output
from driftline.streams.clients.schema import topic_schemas
from driftline.streams.declare.events import Event
from driftline.streams.declare.usecase import UseCase
from driftline.streams.owner.deployment import code_of
from driftline.streams.records.outputs import KINDS
from driftline.streams.simulation.simulate import Simulation
from driftline.streams.simulation.sources import layout, with_closing_clock
from tests.golden.cases import golden_cases
from tests.streams.clients.readers import generated_reader, violations

JSON = ("log", "predictions", "outcomes", "drift", "models")


def with_interval() -> tuple[UseCase, Iterable[Event]]:
    from shop import Asked, Settled, orders, trade

    label = Label(Settled, on="order", value=lambda s: 10.0 * s.bad, wait=3_600.0)
    task = Regression("bad", ask=Asked, label=label, coverage=0.9)

    def linear() -> object:
        return preprocessing.StandardScaler() | linear_model.LinearRegression()

    case = replace(orders, name="amounts", task=task, models=PerKey(champion=Member("linear", linear)))
    return case, with_closing_clock(case, trade(300))


def with_classes() -> tuple[UseCase, Iterable[Event]]:
    from shop import Asked, Settled, orders, trade

    label = Label(Settled, on="order", value=lambda s: "bad" if s.bad else "good", wait=3_600.0)
    task = Multiclass("bad", ask=Asked, label=label)
    models = PerKey(champion=Member("tree", tree.HoeffdingTreeClassifier))
    case = replace(orders, name="classes", task=task, models=models)
    return case, with_closing_clock(case, trade(300))


CASES = {name: (found.case, found.events) for name, found in golden_cases().items()}
CASES |= {"interval": with_interval(), "classes": with_classes()}


@cache
def records(name: str) -> dict[str, list[bytes]]:
    """What each topic of the case holds after a run, the models topic with a code epoch."""
    case, events = CASES[name]
    simulation = Simulation(case)
    found: dict[str, list[bytes]] = defaultdict(list)
    waiting: list[list] = [[] for _ in simulation.processors]  # type: ignore[type-arg]
    for partition, record in layout(case, events, case.partitions):
        waiting[partition].append(record)
        found["log"].append(record.value)
    for partition, log in enumerate(waiting):
        out = simulation.step(partition, log)
        for kind in KINDS:
            found[kind] += [output.value for output in getattr(out, kind)]
    epoch = CodeEpoch(0, 0, code_of(case), dict.fromkeys(KINDS, (-1, -1)))
    found["models"].append(epoch_output(epoch).value)
    return found


@pytest.mark.parametrize("name", CASES)
def test_every_record_is_what_its_schema_says(name: str) -> None:
    case, _ = CASES[name]
    schemas = topic_schemas(case)
    for kind in JSON:
        values = records(name)[kind]
        assert values or kind == "drift"
        # one in some is enough of the many that are alike
        some = values[:: max(1, len(values) // 400)]
        assert violations(schemas[getattr(case.topics(), kind)], some) == []


@pytest.mark.parametrize("name", ["changing", "kinds", "interval", "classes"])
@pytest.mark.parametrize("kind", JSON)
def test_a_reader_that_is_generated_from_the_schema_reads_every_record(
    name: str, kind: str, tmp_path: Path
) -> None:
    case, _ = CASES[name]
    read = generated_reader(topic_schemas(case)[getattr(case.topics(), kind)], tmp_path)
    values = records(name)[kind]
    for value in values[:: max(1, len(values) // 2_000)]:
        assert read(value)
