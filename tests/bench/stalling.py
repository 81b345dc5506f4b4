"""A peer that takes its work, starts a process of its own, and then does nothing, SIGTERM or not."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from driftline.bench.peers.gauge import Gauge

if __name__ == "__main__":
    if len(sys.argv) > 1:  # on Kafka, with an assignment
        Gauge()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    Path("child").write_text(str(child.pid))
    while True:
        signal.pause()
