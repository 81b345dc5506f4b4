"""A peer that cannot do its work."""

from __future__ import annotations

import sys

from driftline.bench.peers.gauge import Gauge

if __name__ == "__main__":
    if len(sys.argv) > 1:  # on Kafka, with an assignment
        Gauge()
    raise RuntimeError("the state of this peer is corrupt")
