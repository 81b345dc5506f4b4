"""Ctrl-C says what it leaves running."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from driftline.infra.local.kafka import _starttime


def test_ctrl_c_names_the_broker_and_the_workers_that_still_run(tmp_path: Path) -> None:
    me = os.getpid()
    record = {"pid": me, "start": _starttime(me), "bootstrap": "127.0.0.1:9", "started": 0.0}
    for name, content in (
        ("kafka/broker.json", record),
        ("status/orders.json", {"pid": me, "case": "orders"}),
        ("status/ended.json", {"pid": me, "case": "ended"}),  # somebody else has its number now
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    script = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by what runs in the background\n"
        "from driftline.infra import cli\n"
        "@cli.app.command()\n"
        "def waiting() -> None:\n"
        "    print('begun', flush=True)\n"
        "    time.sleep(600)\n"
        "sys.argv = ['driftline', 'waiting']\n"
        "cli.main()\n"
    )
    lock = (tmp_path / "status/orders.lock").open("w")
    fcntl.lockf(lock, fcntl.LOCK_EX)  # as a worker has it while it runs
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=os.environ | {"DRIFTLINE_HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[3])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    lock.close()
    assert process.returncode == 130
    assert f"Kafka still runs at 127.0.0.1:9 (process {me}): `driftline down` stops it" in said
    assert f"a worker of orders still runs (process {me})" in said
    assert "of ended" not in said
