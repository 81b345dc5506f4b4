"""Rounds of measurements that may fail: the good ones count, failures are reported, and the bench
continues."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from statistics import median
from typing import Any

from driftline.bench.peers.process import PeerFailed


def say(text: str) -> None:
    """Print a line of progress on standard error."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def attempt(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `run` measured, or the `failure`: of the peer, of the broker, or of the bench around them."""
    try:
        return run()
    except PeerFailed as error:
        say(str(error))
        return {"failure": str(error)}
    except Exception as error:  # one peer's trouble costs its own figures, not those of the others
        traceback.print_exc()
        return {"failure": f"{type(error).__name__}: {error}"}


def medians(run: Callable[[], dict[str, Any]], rounds: int) -> dict[str, Any]:
    """Medians over the good rounds of one peer, and the reasons of failed rounds. None without a good
    round."""
    runs = [attempt(run) for _ in range(rounds)]
    good = [one for one in runs if "failure" not in one]
    failures = [one["failure"] for one in runs if "failure" in one]
    if not good:
        return not_measured(*failures)
    figures: dict[str, Any] = {
        name: median(one[name] for one in good) for name in ("cpu_us_per_event", "events_per_second")
    }
    figures["runs_cpu_us_per_event"] = [one["cpu_us_per_event"] for one in good]
    differences = [one["largest_difference"] for one in good if one.get("largest_difference") is not None]
    if differences:
        figures["largest_difference_from_driftline"] = max(differences)
    return figures | ({"failures": failures} if failures else {})


def not_measured(*reasons: str) -> dict[str, Any]:
    """A peer without figures."""
    return {"cpu_us_per_event": None, "events_per_second": None, "failures": list(reasons)}
