"""`driftline audit` and `driftline lineage` on a real Kafka: exit codes, JSON, and what they name."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec
import pytest
import shop
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import NewPartitions

from driftline.streams.archive.archiver import Archiver
from driftline.streams.archive.epochs import CodeEpoch, epoch_output
from driftline.streams.archive.parts import Archive
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.owner.deployment import code_of
from driftline.streams.records.outputs import KINDS, Output
from driftline.streams.records.ports import StoredRecord
from driftline.streams.records.positions import NOTHING, headers_of

Eventually = Callable[..., Any]
OTHER_ARITHMETIC = {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA"}
WANTED = "asked-70:bad"


@pytest.fixture
def system(system_of: Callable[[str], Any]) -> Any:
    return system_of("shop:orders")


def audited(system: Any, *options: str, **environment: str) -> tuple[int, dict[str, Any]]:
    done = system.run("audit", system.case_path, "--json", *options, **environment)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def publish(system: Any, change: Callable[[str, Output], Output | None] = lambda _, output: output) -> None:
    """What a worker would publish of the log, changed on the way."""
    producer = KafkaProducer(bootstrap_servers=system.bootstrap, acks="all")
    logs: dict[int, list[StoredRecord]] = {p: [] for p in range(system.case.partitions)}
    for record in system.read(system.topics.log):
        logs[record.partition].append(record)
    for partition, records in logs.items():
        epoch = epoch_output(CodeEpoch(partition, 0, code_of(system.case), dict.fromkeys(KINDS, NOTHING)))
        out = PartitionProcessor(system.case, partition).step(records)
        for kind in KINDS:
            outputs = [changed for output in getattr(out, kind) if (changed := change(kind, output))]
            for output in [epoch, *outputs] if kind == "models" else outputs:
                producer.send(
                    getattr(system.topics, kind),
                    key=output.key,
                    value=output.value,
                    headers=headers_of(output),
                    partition=partition,
                )
    producer.close()


def delete(system: Any, topic: str, before: int) -> None:
    """As retention does: every partition of the topic loses what lies before an offset."""
    admin = KafkaAdminClient(bootstrap_servers=system.bootstrap)
    try:
        admin.delete_records({TopicPartition(topic, p): before for p in range(system.case.partitions)})
    finally:
        admin.close()


def test_what_a_worker_published_is_equal_under_its_arithmetic_and_unchecked_under_another(
    system: Any, eventually: Eventually
) -> None:
    system.produce(shop.trade(100))
    worker = system.start()
    eventually(lambda: system.folded(worker))
    system.stop(worker)
    published = sum(len(system.sources(getattr(system.topics, kind))) for kind in KINDS)

    code, found = audited(system)
    assert code == 0
    assert found["checked"] == found["equal"] == published > 200
    assert (found["unchecked"], found["unchecked_reasons"], found["first_difference"]) == (0, {}, None)
    assert found["events"] == 200
    assert found["seconds"] > 0
    assert found["events_per_second"] > 0

    code, found = audited(system, **OTHER_ARITHMETIC)
    assert (code, found["checked"], found["first_difference"]) == (2, 0, None)
    assert found["unchecked_reasons"] == {"other arithmetic (libm or BLAS)": published}

    code, found = audited(system, "--prediction", WANTED)
    assert (code, found["checked"], found["equal"]) == (0, 2, 2)

    done = system.run("lineage", WANTED, system.case_path, "--json")
    assert done.returncode == 0, done.stderr
    traced = json.loads(done.stdout)
    assert traced["agrees"]
    assert traced["status"] == "labelled"
    assert traced["epoch"]["difference"] is None
    assert datetime.fromisoformat(traced["appended"]).year > 2024
    printed = system.run("lineage", WANTED, system.case_path)
    assert printed.returncode == 0
    assert f"log offset {traced['request']['offset']}" in printed.stdout
    assert "labelled" in printed.stdout


@pytest.mark.soak
def test_records_in_partitions_that_the_case_does_not_declare_are_reported(system: Any) -> None:
    system.produce(shop.trade(40))
    publish(system)
    assert audited(system)[1]["undeclared"] == {}
    admin = KafkaAdminClient(bootstrap_servers=system.bootstrap)
    admin.create_partitions({system.topics.log: NewPartitions(3)})
    admin.close()
    code, found = audited(system)
    assert (code, found["undeclared"]) == (0, {"2": 0})

    producer = KafkaProducer(bootstrap_servers=system.bootstrap, acks="all")
    producer.send(system.topics.log, system.case.codec().encode(shop.asked(50, 50, "n")), partition=2).get(30)
    producer.close()
    code, found = audited(system)
    assert (code, found["undeclared"], found["first_difference"]) == (1, {"2": 1}, None)
    assert found["checked"] == found["equal"] > 0
    done = system.run("audit", system.case_path)
    assert "partition 2 of the log is not among those that the case declares: 1 offsets in it" in done.stdout


def test_one_flipped_byte_is_detected_and_named_and_is_other_arithmetic_under_another(system: Any) -> None:
    system.produce(shop.trade(100))

    def flipped(kind: str, output: Output) -> Output:
        if kind != "predictions" or f'"{WANTED}"'.encode() not in output.value:
            return output
        at = output.value.index(b'"true":') + len(b'"true":0.1')
        value = bytearray(output.value)
        value[at] ^= 1
        return msgspec.structs.replace(output, value=bytes(value))

    publish(system, flipped)
    code, found = audited(system)
    difference = found["first_difference"]
    assert (code, found["checked"] - found["equal"]) == (1, 1)
    assert difference["field"] == "probabilities.true"
    assert difference["topic"] == system.topics.predictions
    assert difference["published"] != difference["recomputed"]
    assert difference["model"].startswith("logistic@")
    (record,) = (r for r in system.read(system.topics.predictions) if WANTED.encode() in r.value)
    assert (difference["partition"], difference["offset"]) == (record.partition, record.offset)
    assert difference["source"] == dict(record.headers)["source"].decode()

    printed = system.run("audit", system.case_path, "--prediction", WANTED)
    assert printed.returncode == 1
    assert "probabilities.true" in printed.stdout
    assert difference["model"] in printed.stdout

    at = difference["log_offset"]
    beside = audited(system, "--partition", str(record.partition), "--from", "3", "--to", str(at))
    assert (beside[0], beside[1]["first_difference"]) == (0, None)
    assert audited(system, **OTHER_ARITHMETIC)[0] == 2


def test_deleted_outputs_are_unchecked_and_a_deleted_log_is_read_from_the_archive_or_refused(
    system: Any,
) -> None:
    system.produce(shop.trade(100))
    publish(system)
    delete(system, system.topics.predictions, 10)
    code, found = audited(system)
    assert code == 0
    assert found["unchecked"] == 20
    (reason,) = found["unchecked_reasons"]
    assert reason.startswith("deleted")

    uri = str(system.home / "archive")
    archiver = Archiver(
        Archive(uri, 10), system.bootstrap, [system.topics.log], group=f"{system.namespace}.a"
    )
    archiver.once()
    delete(system, system.topics.log, 20)
    assert audited(system, DRIFTLINE_ARCHIVE=uri)[1] | {"seconds": 0, "events_per_second": 0} == found | {
        "seconds": 0,
        "events_per_second": 0,
    }
    for name, exit_code, arguments in (("audit", 2, []), ("lineage", 1, [WANTED])):
        refused = system.run(name, *arguments, system.case_path)
        assert "offsets [0, 20) are missing" in refused.stderr
        assert (refused.returncode, refused.stdout) == (exit_code, "")


def test_what_is_not_there_is_said(system: Any) -> None:
    nothing = system.run("audit", system.case_path)
    assert nothing.returncode == 2
    assert f"holds anything of {system.topics.log}" in nothing.stderr
    system.produce(shop.trade(10))
    publish(system)
    for name, exit_code, arguments in (
        ("audit", 2, [system.case_path, "--prediction", "x:bad"]),
        ("lineage", 1, ["x:bad", system.case_path]),
    ):
        unknown = system.run(name, *arguments)
        assert unknown.returncode == exit_code
        assert f"no prediction 'x:bad' in {system.topics.predictions}" in unknown.stderr
