"""A command of an operator, from the command line through a real Kafka to what serves."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shop import OPERATOR_KEY, trade

from driftline.streams.simulation.simulate import simulate


def test_a_command_from_the_command_line_changes_what_serves_and_simulate_gives_the_same_bytes(
    system_of: Callable[[str], Any], eventually: Callable[..., Any], tmp_path: Path
) -> None:
    system = system_of("shop:operated")
    key = tmp_path / "ann.key"
    key.write_text(OPERATOR_KEY)
    events = list(trade(40))
    worker = system.start()
    system.produce(events[:40])
    eventually(lambda: system.folded(worker))

    to = ("shop:operated", "constant", "--key", str(key), "--operator")
    refused = system.run("models", "promote", *to, "bob")
    assert refused.returncode == 1
    assert "declares no operator 'bob'; it declares ann" in refused.stderr
    sent = system.run("models", "promote", *to, "ann")
    assert (sent.returncode, sent.stdout) == (0, "")
    system.produce(events[40:])
    eventually(lambda: system.folded(worker))

    log = [record.value for record in system.read(system.topics.log) if record.partition == 0]
    (command,) = [value for value in log if json.loads(value)["type"] == "command"]
    changes = [json.loads(record.value) for record in system.read(system.topics.models)]
    promoted = [change for change in changes if change.get("kind") == "promotion"]
    assert {(c["key"], c["member"], c["serving"], c["reason"]) for c in promoted} == {
        (shop, "constant", "constant", "promote by ann") for shop in "sw"
    }
    listed = json.loads(system.run("models", "list", "shop:operated", "--json").stdout)
    assert [member["name"] for member in listed["members"]] == ["logistic", "constant"]
    assert listed["serving"]["s"]["serving"] == "constant"

    encode = system.case.codec().encode
    source = tmp_path / "log.jsonl"
    lines = [*map(encode, events[:40]), command, *map(encode, events[40:])]
    source.write_bytes(b"\n".join(lines) + b"\n")
    assert simulate(system.case, str(source))["digests"] == system.digests()
    system.stop(worker)


def test_a_key_is_made_once_and_its_owner_alone_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "new.key"
    arguments = [sys.executable, "-m", "driftline", "models", "key", str(path)]
    made = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert len(bytes.fromhex(made.stdout.strip())) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    again = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert "cannot be written" in again.stderr
