"""Slots: each for one process, and what a killed one leaves in the consumer group is put out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from kafka import KafkaAdminClient

from driftline.infra.processes.slot import own_slot, put_out
from driftline.infra.settings import Settings
from driftline.infra.topics.administration import ensure_topics
from driftline.streams.declare.topics import TopicSpec

MEMBER = """
import sys
from pathlib import Path
from kafka import KafkaConsumer
from driftline.infra.settings import Settings
from driftline.infra.processes.slot import own_slot
home, bootstrap, topic = sys.argv[1:]
with own_slot(Settings(home=Path(home), bootstrap=bootstrap, namespace=""), "case") as slot:
    consumer = KafkaConsumer(topic, bootstrap_servers=bootstrap, group_id=topic, client_id=slot.client_id,
                             session_timeout_ms=45_000)
    while not consumer.assignment():
        consumer.poll(100)
    print(slot.client_id, flush=True)
    while True:
        consumer.poll(100)
"""


def members(bootstrap: str, group: str) -> list[str]:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        return [member["client_id"] for member in admin.describe_groups([group])[group]["members"]]
    finally:
        admin.close()


def test_who_gets_the_slot_of_a_killed_process_puts_it_out_of_the_group(
    bootstrap: str, tmp_path: Path
) -> None:
    ensure_topics(bootstrap, [TopicSpec("slots", 1, {})])
    settings = Settings(home=tmp_path, bootstrap=bootstrap, namespace="")
    member = subprocess.Popen(
        [sys.executable, "-c", MEMBER, str(tmp_path), bootstrap, "slots"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert member.stdout is not None
        client_id = member.stdout.readline().strip()
        with own_slot(settings, "case") as other:
            assert other.is_new
            assert other.client_id != client_id
            assert other.status_path.name == "case@2.json"
            assert put_out(bootstrap, "slots", other.client_id) == 0
        assert members(bootstrap, "slots") == [client_id]
    finally:
        member.kill()
        member.wait()
    with own_slot(settings, "case") as heir:
        assert not heir.is_new
        assert heir.client_id == client_id
        assert heir.status_path.name == "case.json"
        assert put_out(bootstrap, "slots", heir.client_id) == 1
        assert members(bootstrap, "slots") == []
