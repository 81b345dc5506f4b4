"""Dead letters of a real log: listed, shown, sent again to where they belong, exported."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import parcels
import pytest
import shop
from kafka import KafkaProducer

from driftline.streams.declare.partitioning import partition_of

CODEC = shop.orders.codec()


@pytest.fixture
def refusing(system_of: Callable[..., Any], eventually: Callable[..., Any]) -> Any:
    """A served case with one event of each kind of refusal, by stage."""
    system = system_of("shop:orders")
    worker = system.start()
    system.produce(shop.trade(40))
    eventually(lambda: system.folded(worker))
    last = max(event.at for event in shop.trade(40))
    fine = shop.Asked(id="wrong-key", at=last, order="w1", shop="s1", amount=1.0)
    astray = shop.Asked(id="astray", at=last, order="w2", shop="s1", amount=2.0)
    home = partition_of(b"s1", shop.orders.partitions)
    other = (home + 1) % shop.orders.partitions
    producer = KafkaProducer(bootstrap_servers=system.bootstrap)
    send = producer.send
    try:
        send(system.topics.log, value=CODEC.encode(fine), key=b"nobody", partition=home)
        send(system.topics.log, value=CODEC.encode(astray), key=b"s1", partition=other)
        send(system.topics.log, value=b"\xffno json", key=b"s1", partition=home)
        late = shop.Asked(id="late", at=shop.START, order="w3", shop="s1", amount=1.0)
        send(system.topics.log, value=CODEC.encode(late), key=b"s1", partition=home)
        producer.flush()
    finally:
        producer.close()
    eventually(lambda: system.folded(worker))
    return system


Letters = Callable[..., subprocess.CompletedProcess[str]]


def letters_of(system: Any) -> Letters:
    """The command `driftline dead-letters` of a system."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        done: subprocess.CompletedProcess[str] = system.run("dead-letters", *arguments)
        return done

    return run


@pytest.fixture
def letters(refusing: Any) -> Letters:
    return letters_of(refusing)


def assert_exported(letters: Letters, path: Path) -> None:
    assert letters("export", "shop:orders", path).returncode == 0
    exported = [json.loads(line) for line in path.read_text().splitlines()]
    assert sorted(each["stage"] for each in exported) == ["decode", "key", "late", "partition"]
    assert [each["value_base64"] for each in exported if each["stage"] == "decode"] == ["/25vIGpzb24="]
    again = letters("export", "shop:orders", path)
    assert (again.returncode, "cannot be written" in again.stderr) == (2, True)
    assert len(path.read_text().splitlines()) == 4, "a file that is there is not written over"


def test_letters_are_listed_and_those_that_can_be_accepted_are_sent_again(
    refusing: Any, letters: Letters, tmp_path: Path
) -> None:
    system = refusing

    listed = letters("list", "shop:orders", "--json")
    assert listed.returncode == 0, listed.stderr
    groups = {group["stage"]: group for group in json.loads(listed.stdout)["groups"]}
    assert {stage: group["count"] for stage, group in groups.items()} == {
        "decode": 1, "key": 1, "late": 1, "partition": 1,
    }  # fmt: skip
    assert {stage for stage, group in groups.items() if not group["can_be_retried"]} == {"late"}

    shown = letters("show", "shop:orders", groups["late"]["example"]["id"], "--json")
    (late,) = json.loads(shown.stdout)["letters"]
    assert json.loads(late["value"])["id"] == "late"
    assert "only moves on" in late["retry"]

    other = letters("retry", "shop:orders_anew", "--stage", "key", "--dry-run")
    assert (other.returncode, "the workers run other code than this" in other.stderr) == (0, True)

    before = system.ends(system.topics.log)
    planned = letters("retry", "shop:orders", "--stage", "key", "--dry-run")
    assert planned.returncode == 0, planned.stderr
    assert "other code" not in planned.stderr
    assert system.ends(system.topics.log) == before, "a dry run sends nothing"

    for stage in ("key", "partition"):
        sent = letters("retry", "shop:orders", "--stage", stage)
        assert sent.returncode == 0, sent.stderr
    answered = {json.loads(record.value)["event_id"] for record in system.read(system.topics.predictions)}
    assert {"wrong-key", "astray"} <= answered
    named = [record for record in system.read(system.topics.log) if dict(record.headers).get("retry-of")]
    assert {dict(record.headers)["retry-of"].decode() for record in named} == {
        groups["key"]["example"]["id"], groups["partition"]["example"]["id"],
    }  # fmt: skip

    again = letters("retry", "shop:orders", groups["key"]["example"]["id"])
    assert again.returncode == 0, "a repeat is dropped, not refused"
    assert len([r for r in system.read(system.topics.predictions) if b'"wrong-key"' in r.value]) == 1

    impossible = letters("retry", "shop:orders", "--reason", "")
    assert impossible.returncode == 2
    refused = letters("retry", "shop:orders", "--stage", "decode")
    assert refused.returncode == 1
    assert "0 of 1 can be sent" in refused.stderr
    assert letters("show", "shop:orders", "0:999").returncode == 1

    assert_exported(letters, tmp_path / "letters.jsonl")


def test_of_a_chain_what_the_logs_stage_refused_is_sent_again_and_the_rest_is_said_to_be_of_no_use(
    system_of: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    system = system_of("parcels:fragile")
    system.start()
    codec = parcels.fragile.codec()
    first, second = [event for event in parcels.events(20) if isinstance(event, parcels.Sent)][:2]
    heavy = msgspec.structs.replace(second, id="heavy", weight=1_000.0)
    producer = KafkaProducer(bootstrap_servers=system.bootstrap)
    try:
        producer.send(system.topics.log, value=codec.encode(first), key=b"nobody", partition=0)
        for fine in (second, heavy):
            home = partition_of(codec.key(fine), parcels.fragile.partitions)
            producer.send(system.topics.log, value=codec.encode(fine), key=codec.key(fine), partition=home)
        producer.flush()
    finally:
        producer.close()
    eventually(lambda: len(system.read(system.topics.dead_letters)) == 2)
    letters = letters_of(system)
    groups = json.loads(letters("list", "parcels:fragile", "--json").stdout)["groups"]
    can_be_retried = {group["stage"]: group["can_be_retried"] for group in groups}
    assert can_be_retried == {"key": True, "features": False}
    refused = letters("retry", "parcels:fragile", "--stage", "features")
    assert refused.returncode == 1
    assert "a stage behind the log refused it" in refused.stdout
    sent = letters("retry", "parcels:fragile", "--stage", "key")
    assert sent.returncode == 0, sent.stderr

    def answered() -> set[str]:
        return {json.loads(record.value)["event_id"] for record in system.read(system.topics.predictions)}

    assert eventually(lambda: answered() if len(answered()) == 2 else None) == {first.id, second.id}
