"""What a process logs can be read by a program: a JSON object a line, with what it is about."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from kafka.net import manager
from kafka.net.selector import NetworkSelector

from driftline import logs
from tests.conftest import free_port

CASES = str(Path(__file__).parent / "cases")


@pytest.fixture
def log() -> logging.Logger:
    """A logger that is set up as the root logger is."""
    logger = logging.Logger("driftline.test")
    logger.addHandler(logging.StreamHandler(io.StringIO()))
    return logger


def written(log: logging.Logger) -> str:
    """What a logger has written to its one handler."""
    (handler,) = log.handlers
    assert isinstance(handler, logging.StreamHandler)
    return str(handler.stream.getvalue())


def test_each_task_names_what_it_is_about(log: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DRIFTLINE_LOG", "json")
    logs.as_set(log, case="orders")

    async def partition(number: int) -> None:
        offset = 10 * number
        logs.about(partition=number, offset=lambda: offset)
        await asyncio.sleep(0)
        offset += 1
        log.error("it fails: %s", "Größe")

    async def all_of_them() -> None:
        await asyncio.gather(*map(partition, range(2)))

    asyncio.run(all_of_them())
    first, second = map(json.loads, written(log).splitlines())
    assert {first.pop("at"), second.pop("at")}
    same = {"level": "ERROR", "logger": "driftline.test", "message": "it fails: Größe", "case": "orders"}
    assert (first, second) == (same | {"partition": 0, "offset": 1}, same | {"partition": 1, "offset": 11})
    assert "Größe" in written(log)


def test_an_error_is_one_line_with_its_traceback(
    log: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DRIFTLINE_LOG", "json")
    logs.as_set(log)
    try:
        raise ValueError("of two\nlines")
    except ValueError:
        log.exception("failed")
    (line,) = written(log).splitlines()
    assert "ValueError: of two\nlines" in json.loads(line)["exc_info"]


def test_people_get_text(log: logging.Logger) -> None:
    logs.as_set(log)
    log.error("it fails")
    assert written(log) == "it fails\n"


def test_a_worker_logs_json_from_its_first_line_on(tmp_path: Path) -> None:
    environment = {
        "PYTHONPATH": CASES,
        "DRIFTLINE_HOME": str(tmp_path),
        "DRIFTLINE_LOG": "json",
        "DRIFTLINE_BOOTSTRAP": f"127.0.0.1:{free_port()}",
    }
    worker = subprocess.Popen(
        [sys.executable, "-m", "driftline", "worker", "shop:orders"],
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert worker.stderr is not None
        lines = map(json.loads, worker.stderr)  # the libraries' too
        ours = next(line for line in lines if line["logger"].startswith("driftline"))
    finally:
        worker.kill()
        worker.communicate()
    assert (ours["level"], ours["case"]) == ("WARNING", "orders")
    assert "asking Kafka" in ours["message"]


def test_attempts_to_connect_and_slow_steps_of_kafka_python_are_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def step() -> None:
        pass

    def step_slowly() -> None:
        selector = NetworkSelector(slow_task_threshold_secs=1e-9)
        selector.run(step())
        selector.close()
        logging.getLogger(manager.__name__).error("Connection failed: %s", "refused")

    step_slowly()
    written = {record.name for record in caplog.records}
    caplog.clear()
    logs.leave_out_chatter()
    step_slowly()
    assert written == {"kafka.net.selector", "kafka.net.manager"}
    assert not caplog.messages
