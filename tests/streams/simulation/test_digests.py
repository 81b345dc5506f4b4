"""Predictions, drift and decisions are the same bytes, however the log is cut and strings are hashed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from changing import COMMANDS, changing

from driftline.streams.records.outputs import Outputs
from driftline.streams.simulation.digest import DIGESTED, Digests
from driftline.streams.simulation.simulate import simulate


class Published:
    """What a run put out, by what it says."""

    def __init__(self) -> None:
        self.drifts: list[dict[str, Any]] = []
        self.changes: list[dict[str, Any]] = []

    def take(self, partition: int, out: Outputs) -> None:
        self.drifts += [json.loads(output.value) for output in out.drift]
        self.changes += [json.loads(output.value) for output in out.models]


@pytest.fixture(scope="module")
def published() -> Published:
    return Published()


@pytest.fixture(scope="module")
def expected(published: Published) -> dict[str, Any]:
    return simulate(changing, on_outputs=published.take)


def test_the_case_has_incidents_promotions_and_obeyed_commands(
    expected: dict[str, Any], published: Published
) -> None:
    assert expected["dead_letters"] == 0
    kinds = {event["kind"] for event in published.drifts if event["severity"] == "drift"}
    assert {"data break", "concept drift"} <= kinds
    assert {event["key"] for event in published.drifts if event["severity"] == "recovered"} == {
        "s",
        "w",
    }
    by_evidence = Counter(c["key"] for c in published.changes if c["kind"] == "promotion" and "evidence" in c)
    assert min(by_evidence["s"], by_evidence["w"]) >= 1
    commanded = {c["reason"].split(" ")[0] for c in published.changes if " by ann" in c["reason"]}
    assert commanded == {command["action"] for command in COMMANDS.values()}
    assert not [change for change in published.changes if change["kind"] in ("refused", "quarantine")]


@pytest.mark.parametrize(("seed", "chunk"), [("1", "1"), ("2", "13"), ("3", "5000")])
def test_chunks_and_hash_seeds_change_no_digest(expected: dict[str, Any], seed: str, chunk: str) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "driftline", "simulate", "changing:changing"),
            "--chunk",
            chunk,
            "--json",
        ],
        env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["digests"] == expected["digests"]
    assert found["digest"] == expected["digests"]["predictions"]
    assert found["models"] == expected["models"]


def test_a_toll_tells_what_every_member_lost_while_an_incident_lasted(
    expected: dict[str, Any], published: Published
) -> None:
    tolls = [event["toll"] for event in published.drifts if event["toll"] is not None]
    assert tolls
    assert all(event["severity"] == "recovered" for event in published.drifts if event["toll"] is not None)
    for toll in tolls:
        assert toll["labels"] >= 128 / 2
        assert {"logistic", "frozen", "prior"} <= toll["members"].keys()
        assert min(toll["members"].values()) <= toll["served"] <= max(toll["members"].values())


@pytest.mark.parametrize("kind", DIGESTED)
def test_a_digest_is_of_partitions_positions_and_bytes(kind: str) -> None:
    def of(*records: tuple[int, int, int, bytes]) -> str:
        digests = Digests(2)
        for partition, offset, ordinal, value in records:
            digests.update(kind, partition, offset, ordinal, value)
        assert len(set(digests.as_dict().values())) == (2 if records else 1)
        return digests.as_dict()[kind]

    ones = [(0, 3, 0, b"{}"), (1, 3, 0, b"{}"), (0, 4, 0, b"{}"), (0, 3, 1, b"{}"), (0, 3, 0, b"[]")]
    assert len({of(), of(ones[0], ones[0]), *map(of, ones)}) == 7
