"""`driftline upgrade` on a real Kafka: it stops where the past would be lost, and the workers serve on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import shop

ORDERS = 100


@pytest.mark.soak
def test_an_upgrade_that_would_lose_the_past_stops_unless_that_is_accepted(
    system_of: Callable[..., Any], eventually: Callable[..., Any]
) -> None:
    system = system_of("shop:orders")
    old, _ = system.command("worker", "shop:orders")
    system.produce(shop.trade(ORDERS))
    eventually(lambda: system.folded(old))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "driftline", "upgrade", *arguments],
            env=system.environment,
            capture_output=True,
            text=True,
            timeout=240,
        )

    stopped = run("fields:deleted")
    assert stopped.returncode == 3, stopped.stderr
    assert f"the new code refuses {ORDERS} that the code which serves accepted" in stopped.stderr
    assert "unknown field `note`" in stopped.stderr
    assert "--accept-refused" in stopped.stderr
    assert "Traceback" not in stopped.stderr

    plan = run("fields:retired", "--plan")
    assert plan.returncode == 0, plan.stderr
    assert f"of {2 * ORDERS} records of the past, the new code refuses 0" in plan.stdout
    assert f"of {ORDERS} published predictions" in plan.stdout
    assert old.poll() is None, "the plan left the worker alone"

    new, said = system.command("upgrade", "fields:deleted", "--accept-refused")
    eventually(lambda: old.poll() is not None)
    assert old.returncode == 0
    assert f"refuses {ORDERS} that" in said.read_text()
    system.stop(new)
