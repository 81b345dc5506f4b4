"""The README's code, as it stands there: pasted and run on a real Kafka."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
from kafka import KafkaConsumer, KafkaProducer

from driftline import UseCase
from driftline.examples.flights.events import Scheduled
from driftline.features.state.feature_state import FeatureState
from driftline.streams.fold.processor import PartitionProcessor

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def block(words: str) -> str:
    """The one block of Python in the README that contains these words."""
    (found,) = [code for code in BLOCKS if words in code]
    return found


def test_the_readme_has_two_declarations_and_four_uses() -> None:
    parts = (
        "UseCase(",
        "features = {",
        "EventProducer",
        "FeatureClient",
        "FeatureStore",
        "PredictionConsumer",
    )
    assert len({block(part) for part in parts}) == len(BLOCKS) == 6


def test_the_declaration_is_a_case_that_can_be_folded() -> None:
    sys.modules["readme"] = type(sys)("readme")
    written = vars(sys.modules["readme"])
    try:
        exec(block("UseCase("), written)  # the README's own code
        case = written["flights"]
        assert isinstance(case, UseCase)
        PartitionProcessor(case, 0)
        assert case.topics().log == "flights.events"
    finally:
        del sys.modules["readme"]


def test_the_features_are_those_of_a_case() -> None:
    sys.modules["readme"] = type(sys)("readme")
    written = vars(sys.modules["readme"])
    try:
        exec(block("features = {"), written)
        assert [type(feature).__name__ for feature in written["features"].values()] == [
            "Window", "Window", "OnDemand", "Window",
        ]  # fmt: skip
        state = FeatureState(written["features"], written["Passed"])
        passed = written["Passed"](
            id="1", at=datetime(2026, 1, 1, tzinfo=UTC), road="A1", plate="x", speed=80.0
        )
        state.update(passed, passed.at.timestamp())
        assert state.read(passed, passed.at.timestamp())["slower"] == 0.0
    finally:
        del sys.modules["readme"]


def first_predictions(bootstrap: str, count: int) -> list[dict[str, Any]]:
    """Predictions of the flights as any Kafka client reads them."""
    consumer = KafkaConsumer(
        "flights.predictions", bootstrap_servers=bootstrap, auto_offset_reset="earliest",
        consumer_timeout_ms=240_000,
    )  # fmt: skip
    try:
        return [json.loads(record.value) for _, record in zip(range(count), consumer, strict=False)]
    finally:
        consumer.close()


def plain_client(bootstrap: str) -> None:
    """Any Kafka client produces events too: JSON to flights.events, key = the origin."""
    plain = Scheduled(
        id="plain-1", at=datetime.now(UTC), flight="plain-flight", number="UA1", origin="EWR", dest="IAH",
        carrier="UA", tailnum=None, distance=1400.0, duration=227.0,
    )  # fmt: skip
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    producer.send("flights.events", msgspec.json.encode(plain), key=b"EWR")
    producer.close()


def lines_of(reader: subprocess.Popen[str], count: int, eventually: Callable[..., Any]) -> list[str]:
    """The first lines that a process prints, which is ended then."""
    lines: list[str] = []

    def read() -> None:
        assert reader.stdout is not None
        lines.extend(iter(reader.stdout.readline, ""))

    reading = threading.Thread(target=read, daemon=True)
    reading.start()
    try:
        eventually(lambda: len(lines) >= count or reader.poll() is not None, 240)
    finally:
        reader.kill()
        reader.wait()
        reading.join()
    return lines


def test_the_four_uses_work_when_pasted(
    system_of: Callable[..., Any], eventually: Callable[..., Any], tmp_path: Path
) -> None:
    system = system_of("driftline.examples.flights:flights", namespace="")
    worker = system.start()
    here = tmp_path / "here"
    here.mkdir()
    (here / ".driftline").symlink_to(system.home)
    environment = system.environment | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    del environment["DRIFTLINE_HOME"]

    def pasted(code: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=here,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def printed(code: str) -> str:
        process = pasted(code)
        said, _ = process.communicate(timeout=240)
        assert process.returncode == 0, said
        return said

    assert printed(block("EventProducer")) == ""
    plain_client(system.bootstrap)
    eventually(lambda: system.folded(worker), 240)
    eventually(lambda: (system.home / "feast" / "flights" / "feature_store.yaml").exists(), 240)

    assert printed(block("FeatureClient")).startswith("None missing")
    said = printed(block("FeatureStore"))
    assert "'origin': ['EWR']" in said
    assert "flights_by_origin" in block("FeatureStore")

    reader = pasted(block("PredictionConsumer"))
    lines = lines_of(reader, 2, eventually)
    assert [line.split()[0] for line in lines] == ["my-flight", "plain-flight"], lines
    assert all(0 < float(line.split()[1]) < 1 and "logistic@" in line for line in lines)

    values = first_predictions(system.bootstrap, 2)
    assert [value["event_id"] for value in values] == ["my-1", "plain-1"]
    system.stop(worker)
