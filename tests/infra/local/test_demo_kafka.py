"""The demo of a case of several stages on a real Kafka."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from parcels import Sent, events, on_two

from tests.conftest import CASES


@pytest.mark.soak
def test_the_demo_of_a_chain_waits_for_its_last_stage_and_reports_what_that_has_answered(
    bootstrap: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "driftline", "demo", "parcels:on_two", "--json"],
        env=os.environ
        | {
            "DRIFTLINE_HOME": str(tmp_path),
            "DRIFTLINE_BOOTSTRAP": bootstrap,
            "DRIFTLINE_NAMESPACE": "demo-chain",
            "PYTHONPATH": str(CASES),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    requests = sum(isinstance(event, Sent) for event in events())
    assert found["predictions"] == requests
    assert found["pending"] == 0
    assert found["labelled"] + found["void"] == requests
    assert set(found["digests"]) == {"predictions", "drift", "models"}
    assert on_two.name in Path(found["report"]).read_text()
