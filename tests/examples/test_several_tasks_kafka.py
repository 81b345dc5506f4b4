"""Two tasks on one log of a real Kafka: each is answered, proved and archived apart, by names of its own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
import shop

from driftline import EventProducer, PredictionConsumer
from driftline.infra.settings import Settings
from driftline.infra.topics.committed_offsets import worker_groups
from driftline.streams.archive.parts import Archive
from driftline.streams.connection import clients
from driftline.streams.declare.usecase import load_case
from driftline.streams.simulation.simulate import simulate
from tests.infra.gateway.gateways import Client, Gateways, asked, encoded

CASE = "shop:questions"
TASKS = ("bad", "loss")
ORDERS = 20
Eventually = Callable[..., Any]


@pytest.fixture
def served(system_of: Callable[..., Any], eventually: Eventually) -> dict[str, Any]:
    """A system for each task, of one home: their workers have folded what was sent to the log once."""
    first = system_of(f"{CASE}@bad")
    second = replace(first, case_path=f"{CASE}@loss", case=load_case(f"{CASE}@loss"))
    systems = dict(zip(TASKS, (first, second), strict=True))
    workers = {task: system.start() for task, system in systems.items()}
    with EventProducer(shop.questions, first.bootstrap, namespace=first.namespace) as producer:
        for event in shop.trade(ORDERS):
            producer.send(event)
    for task, system in systems.items():
        eventually(lambda task=task, system=system: system.folded(workers[task]))
    return systems


def test_each_task_answers_as_it_does_alone_and_is_proved_and_archived_apart(served: dict[str, Any]) -> None:
    for task, system in served.items():
        assert system.digests() == simulate(shop.questions.of(task), limit=2 * ORDERS)["digests"]
        status = system.status
        assert (status["case"], status["log"]) == (system.case.name, served["bad"].topics.log)
        with PredictionConsumer(
            system.case, system.bootstrap, namespace=system.namespace, timeout=1.0
        ) as predictions:
            assert [prediction.task for prediction in predictions] == [task] * ORDERS
    with clients.admin(served["bad"].bootstrap) as admin:
        groups = [worker_groups(admin, system.topics.readers) for system in served.values()]
    assert [len(of_task) for of_task in groups] == [1, 1]
    assert groups[0] != groups[1]
    asyncio.run(ask_both(served))

    archiving = [
        system.command("archive", system.case_path, "--once", "--part-size", "10")
        for system in served.values()
    ]
    audit, report = served["loss"].command("audit", f"{CASE}@loss", "--json")
    assert audit.wait() == 0, report.read_text()
    text = report.read_text()
    audited = json.loads(text[text.index("{") :])
    assert audited["equal"] == audited["checked"] >= ORDERS + 2
    for process, out in archiving:
        assert process.wait() == 0, out.read_text()
    ends = {n: end - end % 10 for n, end in served["bad"].ends(served["bad"].topics.log).items()}
    for system in served.values():  # each has the whole log, so that each is proved from its own
        settings = Settings(home=system.home, bootstrap=system.bootstrap, namespace=system.namespace)
        archive = Archive(settings.archive_uri(system.case.name))
        assert {number: archive.end(system.topics.log, number) for number in ends} == ends


async def ask_both(served: dict[str, Any]) -> None:
    """The gateway answers for the task that is asked, and has the answer of the other."""
    gateways = Gateways(served["bad"], CASE)
    port = gateways.start()
    await gateways.until_ready(port)
    async with aiohttp.ClientSession() as session:
        of = {
            task: Client(session, port, gateways.key, f"/v1/cases/{system.case.name}")
            for task, system in served.items()
        }
        for number, task in enumerate(TASKS, 1):
            other = TASKS[number % 2]
            status, body, _ = await of[task].post("/predictions", encoded(asked(number)))
            assert (status, json.loads(body)["task"]) == (200, task), body
            status, body, _ = await of[other].post("/predictions", encoded(asked(number)))
            assert (status, json.loads(body)["task"]) == (200, other), "a repeat, answered already"
            assert (await of[other].get(f"/predictions/g{number}"))[:2] == (200, body)
    for system in served.values():
        assert len(system.read(system.topics.predictions)) == ORDERS + len(TASKS)
