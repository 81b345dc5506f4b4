"""Several tasks on one case: each is folded as a case of its own would be, over one log."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import shop
from msgspec import UNSET
from shop import BAD, HOUR, LOSS, MODELS, Asked, Settled, asked, linear, questions, settled

import driftline as dl
from driftline import (
    Bridge,
    Clock,
    DeclarationError,
    Enrichment,
    FeatureClient,
    Label,
    Member,
    PerKey,
    PredictionConsumer,
    UseCase,
    load_case,
)
from driftline.infra.topics.operator import make_key, signed_command
from driftline.infra.topics.rights import rights
from driftline.streams.connection.roles import Role
from driftline.streams.declare.commands import new_command, new_key
from driftline.streams.declare.topics import is_worker_group
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.records.outputs import KINDS, Outputs
from driftline.streams.simulation.simulate import simulate
from driftline.streams.simulation.sources import LogRecord, with_closing_clock

DAY = 24 * HOUR


def outputs_of(case: UseCase) -> dict[str, list[bytes]]:
    """All that a case puts out over its own source, by kind."""
    found: dict[str, list[bytes]] = {kind: [] for kind in KINDS}

    def take(_: int, outputs: Outputs) -> None:
        for kind in KINDS:
            found[kind] += [output.value for output in getattr(outputs, kind)]

    simulate(case, on_outputs=take)
    return found


def test_each_task_is_folded_as_the_case_that_has_it_alone() -> None:
    for task in (BAD, LOSS):
        name = questions.of(task.name).name
        alone = replace(questions, name=name, task=task, models=MODELS[task.name], tasks=())
        of_several = outputs_of(questions.of(task.name))
        assert of_several == outputs_of(alone)
        assert {json.loads(value)["task"] for value in of_several["predictions"]} == {task.name}
        assert len(of_several["predictions"]) == 150


def test_the_first_task_keeps_all_names_and_its_code_so_that_a_case_can_get_further_tasks() -> None:
    before = replace(questions, task=BAD, models=MODELS["bad"], tasks=())
    first = questions.of("bad")
    assert (first.name, first.log_of, first.addressee) == ("orders", "", "")
    assert first.spec_hash == before.spec_hash
    kept = [replace(case.topics("ns"), retention=0.0) for case in (first, before)]
    assert kept[0] == kept[1]


def test_another_task_has_topics_of_its_own_beside_the_one_log() -> None:
    first, second = (case.topics("ns") for case in questions.each())
    assert first.log == second.log == "ns.orders.events"
    assert second.predictions == "ns.orders-loss.predictions"
    names = [{spec.name for spec in topics.all()} for topics in (first, second)]
    assert names[0] & names[1] == {"ns.orders.events"}
    log = [next(spec for spec in topics.all() if spec.name == topics.log) for topics in (first, second)]
    assert log[0] == log[1]  # whoever makes it, it has the same settings


def test_topics_are_kept_as_long_as_the_task_with_the_longest_wait_needs() -> None:
    kept = {case.topics().retention for case in questions.each()}
    assert kept == {replace(questions, tasks=[LOSS], models=MODELS["loss"]).topics().retention}
    assert kept.pop() > 900 * HOUR
    with pytest.raises(DeclarationError, match="orders-loss: retention is 40 days, but events are needed"):
        replace(questions, retention=timedelta(days=40))
    assert {case.topics().retention for case in replace(questions, retention=90 * DAY).each()} == {90 * DAY}


def test_who_reads_the_log_for_one_task_is_distinguished_from_who_reads_it_for_another() -> None:
    first, second = (case.topics() for case in questions.each())
    assert is_worker_group(f"{second.readers}.worker.0a1b", second.readers)
    assert not is_worker_group(f"{second.readers}.worker.0a1b", first.readers)
    assert first.owner("events", 0) != second.owner("events", 0)
    of_worker = [{right.name for right in rights(Role.WORKER, topics)} for topics in (first, second)]
    assert of_worker[0] & of_worker[1] == {"orders.events"}


def test_tasks_on_several_partitions_are_chains_of_their_own_over_the_one_log() -> None:
    several = replace(questions, partitions=4)
    first, second = several.each()
    assert [case.plan.is_chain for case in (first, second)] == [False, True]
    assert second.topics().of_stage("events", "0a1b2c3d4e5f") == "orders.events"
    assert second.topics().of_stage("questions", "0a1b2c3d4e5f") == "orders-loss.questions.0a1b2c3d4e5f"
    assert [case.codec().key(asked(0, 0, "w")) for case in (first, second)] == [b"w", b"w"]


def test_a_list_of_one_task_is_that_task() -> None:
    alone = replace(questions, tasks=[BAD], models={"bad": MODELS["bad"]})
    assert alone == replace(questions, tasks=[BAD], models=MODELS["bad"])
    assert alone.task == BAD
    assert (alone.tasks, alone.each()) == ((), (alone,))
    assert alone.of("bad") is alone
    assert alone.topics().predictions == "orders.predictions"


SINGLE: list[Callable[[UseCase], Any]] = [
    simulate,
    lambda case: PartitionProcessor(case, 0),
    lambda case: PredictionConsumer(case, "127.0.0.1:1"),
    FeatureClient,
    lambda case: case.topics(),
    lambda case: case.plan,
    lambda case: case.spec_hash,
    lambda case: case.codec(),
    lambda case: case.task.name,
    lambda case: case.models.champion,
    lambda case: case.record_keys,
]


@pytest.mark.parametrize("use", SINGLE)
def test_what_works_with_one_task_refuses_a_case_of_several_and_says_how_to_take_one(
    use: Callable[[UseCase], Any],
) -> None:
    with pytest.raises(DeclarationError, match=r"has the tasks bad, loss.*\.of\('bad'\).*CASE@bad"):
        use(questions)


def test_a_case_of_several_tasks_can_be_shown_copied_and_declared_anew() -> None:
    assert "orders" in repr(questions)
    assert copy.copy(questions).of("loss").name == "orders-loss"
    assert replace(questions, partitions=2).of("loss").partitions == 2


def test_what_writes_the_log_takes_a_case_of_several_tasks() -> None:
    bridge = Bridge("till", questions, topic="pos.sales", map=lambda _: None)
    assert bridge.case == questions.writing == questions.of("bad")
    for event in (asked(0, 0), settled(0, 1)):
        assert len({case.codec().encode(event) for case in questions.each()}) == 1
        assert len({case.codec().key(event) for case in questions.each()}) == 1


def test_an_enrichment_reads_the_online_rows_of_one_task() -> None:
    with pytest.raises(DeclarationError, match=r"orders has several tasks.*Enrichment\(orders\.of\('bad'\)"):
        Enrichment(questions, "orders_by_shop", key={"shop": "shop"}, fields={"rate": "bad_1h"})
    second = questions.of("loss")
    (view,) = second.views()
    assert Enrichment(second, view.name, key={"shop": "shop"}, fields={"rate": "bad_1h"}).case is second


def test_a_log_is_closed_when_no_task_waits_any_more() -> None:
    *_, clock = with_closing_clock(questions, shop.trade(3))
    *_, last = shop.trade(3)
    assert isinstance(clock, Clock)
    assert clock.at - last.at > timedelta(hours=900)
    processor = PartitionProcessor(questions.of("loss"), 0)
    codec = questions.writing.codec()
    events = [asked(0, 0), *with_closing_clock(questions, [asked(1, 1)])]
    processor.step([LogRecord(n, codec.key(one), codec.encode(one)) for n, one in enumerate(events)])  # type: ignore[arg-type]
    assert processor.open == 0


def test_a_path_may_name_the_task_that_is_meant() -> None:
    assert load_case("shop:questions").tasks == (BAD, LOSS)
    assert load_case("shop:questions@loss").name == "orders-loss"
    assert load_case("shop:orders@bad").name == "orders"  # that it has alone
    with pytest.raises(DeclarationError, match=r"no task 'los'\. Did you mean 'loss'\?; it has"):
        load_case("shop:questions@los")
    with pytest.raises(DeclarationError, match=r"orders\.of: the name of a task"):
        questions.of(3)  # type: ignore[arg-type]


OTHER_ASK = replace(LOSS, name="other", ask=Settled, label=Label(Asked, on="order", value=repr, wait=HOUR))
OTHER_KEY = replace(LOSS, name="other", label=Label(Settled, on="shop", value=lambda e: e.bad, wait=HOUR))
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"tasks": BAD}, "tasks: expected a list of tasks, not"),
    ({"tasks": ["bad"]}, r"tasks: expected Binary\(\.\.\.\), .* not 'bad'"),
    ({"tasks": [dl.Binary]}, "not the class|not Binary"),
    ({"tasks": [BAD, LOSS], "task": replace(BAD, name="ok")}, "the task 'ok' is not one of tasks="),
    ({"tasks": [BAD, BAD]}, "two have the name 'bad'"),
    ({"tasks": [BAD, OTHER_ASK]}, "'bad' asks at Asked, 'other' at Settled"),
    ({"tasks": [BAD, OTHER_KEY]}, "'bad' join on 'order', those of 'other' on 'shop'"),
    ({"models": MODELS["bad"]}, "models: expected models for each of the tasks, {'bad': ...}"),
    ({"models": MODELS | {"los": MODELS["loss"]}}, "'los' is not one of the tasks. Did you mean 'loss'"),
    ({"models": {"bad": MODELS["bad"]}}, "models: expected PerKey or Shared for 'loss', not None"),
    ({"models": MODELS | {"loss": linear}}, "models: expected PerKey or Shared for 'loss', not the function"),
    ({"tasks": [BAD, replace(LOSS, name="a.b")], "models": {"bad": MODELS["bad"], "a.b": MODELS["loss"]}},
     "name"),
    ({"slices": ["nothing"]}, "slice 'nothing' is not a field of Asked"),
    ({"tasks": []}, "task: expected Binary"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "reason"), WRONG)
def test_tasks_that_do_not_go_together_are_refused(changes: dict[str, Any], reason: str) -> None:
    given = {
        "name": "orders", "key": "shop", "events": questions.events, "features": questions.features,
        "tasks": [BAD, LOSS], "models": MODELS,
    }  # fmt: skip
    with pytest.raises(DeclarationError, match=reason):
        UseCase(**given | changes)


def test_a_command_is_obeyed_by_the_task_that_it_is_for_alone() -> None:
    private, public = new_key()
    two = {
        name: PerKey(Member("one", shop.logistic), [Member("two", shop.logistic)]) for name in ("bad", "ok")
    }
    tasks = [BAD, replace(BAD, name="ok")]
    case = replace(questions, tasks=tasks, models=two, operators={"ann": public})
    first, second = case.each()
    signed = [
        new_command(one.name, "ann", private, "promote", member="two", task=one.addressee)
        for one in (first, second)
    ]
    for number, one in enumerate(case.each()):
        for meant, command in enumerate(signed):
            codec, processor = one.codec(), PartitionProcessor(one, 0)
            events = [asked(0, 0), settled(0, 1), command, asked(1, 2)]
            out = processor.step(
                [LogRecord(n, codec.key(event), codec.encode(event)) for n, event in enumerate(events)]  # type: ignore[arg-type]
            )
            serving = [json.loads(output.value)["model"]["name"] for output in out.predictions]
            assert serving == ["one", "two" if number == meant else "one"]
            assert out.dead_letters == []
    assert b'"task"' not in first.codec().encode(signed[0])  # which those who know one task alone can read


def test_a_command_to_one_task_that_was_signed_for_another_is_refused() -> None:
    private, public = new_key()
    case = replace(questions, operators={"ann": public}).of("loss")
    command = new_command("orders", "ann", private, "freeze", task="loss")
    record = LogRecord(0, None, case.codec().encode(command))
    (letter,) = PartitionProcessor(case, 0).step([record]).dead_letters
    assert b"the signature is not that of operator 'ann'" in dict(letter.headers)["reason"]


def test_the_command_line_signs_a_command_for_the_task_that_is_named(tmp_path: Path) -> None:
    key = tmp_path / "key"
    case = replace(questions, operators={"ann": make_key(key)})
    for one, task in zip(case.each(), (UNSET, "loss"), strict=True):
        command = signed_command(one, "ann", key, action="freeze")
        assert command.task == task
        record = LogRecord(0, None, one.codec().encode(command))
        assert PartitionProcessor(one, 0).step([record]).dead_letters == []
