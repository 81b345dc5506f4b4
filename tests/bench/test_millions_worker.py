"""The bench of a worker with a large state: on a real Kafka, small."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path

import pytest
from pydantic import ByteSize

from driftline.bench.speed import millions_worker
from driftline.infra.settings import Settings

KEYS = 300
OPEN = 6_000


@pytest.mark.soak  # the worker takes its first checkpoint after a minute
def test_a_worker_that_is_killed_goes_on_from_the_state_that_was_made(
    bootstrap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"SETTLED": 1_500, "MINUTE": 1_000, "SERVED": 5.0, "BEHIND": 3.0}.items():
        monkeypatch.setattr(millions_worker, name, value)
    namespace = f"millions-{secrets.token_hex(4)}"
    settings = Settings(home=tmp_path, bootstrap=bootstrap, namespace=namespace, memory=ByteSize(10**6))
    loaded = asyncio.run(millions_worker.build(settings, KEYS, OPEN))["loaded"]
    assert loaded > 0
    found = millions_worker.measure(settings, KEYS, loaded)
    assert (found["lost"], found["repeated"]) == (0, 0)
    assert found["killed"]["behind_records"] > 0
    assert 0.0 < found["killed"]["to_prediction_seconds"] <= found["killed"]["to_caught_up_seconds"]
    assert found["served"]["checkpoint_cpu_seconds"] or found["served_again"]["cpu_us_per_event"] > 0.0
