"""The command line: what goes where, and what exit codes mean."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest
from kafka import KafkaAdminClient

from infra import cli


def driftline(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "infra.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **environment},
    )


def test_every_command_has_help() -> None:
    listed = driftline("--help").stdout
    for command in (
        "up", "down", "status", "worker", "produce", "simulate", "demo", "schema", "bench", "features",
        "archive", "replay", "predictions", "outcomes", "drift", "models", "dead-letters",
    ):  # fmt: skip
        assert f"\n  {command} " in listed


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("simulate",),
        ("simulate", "x:y", "--limit", "0"),
        ("features", "get", "x:y", "v", "k"),
        ("replay", "x:y", "--from", "noon"),
        ("replay", "x:y", "--values", "--json"),
        ("archive", "x:y", "--topic", "t"),
    ],
)
def test_wrong_usage_ends_with_2(arguments: tuple[str, ...]) -> None:
    done = driftline(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("worker", "nosuch"), "neither module:attribute nor named"),
        (("schema", "no.such:thing"), "cannot import"),
        (("schema", "examples.flights:nothing"), "has no attribute 'nothing'"),
        (("predictions", "tail", "examples.flights:flights"), "no Kafka: run `driftline up`"),
        (("simulate", "examples.flights:flights", "gone.jsonl"), "source gone.jsonl does not exist"),
    ],
)
def test_a_failure_is_one_line_and_ends_with_1(arguments: tuple[str, ...], said: str) -> None:
    done = driftline(*arguments)
    assert done.returncode == 1
    assert done.stdout == ""
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_broker_out_of_reach_is_one_line_and_ends_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"

        def reach_out() -> None:
            KafkaAdminClient(bootstrap_servers=address, bootstrap_timeout_ms=300)

        monkeypatch.setattr(cli, "app", reach_out)
        with pytest.raises(SystemExit, match="1"):
            cli.main()
    said = capsys.readouterr()
    assert said.out == ""
    assert address in said.err
    assert len(said.err.splitlines()) == 1


def test_without_a_broker_status_is_json_and_ends_with_1() -> None:
    done = driftline("status", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["broker"]["running"] is False


def test_the_status_of_a_broker_named_in_the_environment_is_asked_of_it(bootstrap: str) -> None:
    done = driftline("status", "--json", DRIFTLINE_BOOTSTRAP=bootstrap)
    assert done.returncode == 0
    assert json.loads(done.stdout)["broker"] == {"running": True, "bootstrap": bootstrap, "pid": None}


def test_schemas_are_one_json_object() -> None:
    assert json.loads(driftline("schema", "examples.flights:flights").stdout)
