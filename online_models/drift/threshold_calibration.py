"""Measures how often the detectors alarm on stationary streams, and writes `thresholds.json`.

    python -m driftline.online_models.drift.threshold_calibration

Each scenario is a kind of stationary stream, run in `RUNS` columns of `BLOCKS` blocks. At each level of
evidence a column counts until its first exceedance: blocks watched by exceedances is the mean time between
false alarms, for exponential times the maximum likelihood estimate under censoring. The table has, at each
level, the shortest of all scenarios. Where fewer than `FEWEST_EXCEEDING` columns exceed, the straight line
through the scenario's last measured levels goes on: the tail of the evidence is exponential.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from math import log
from pathlib import Path
from typing import Any

import numpy as np

from driftline.online_models.drift.monitors.value_scale import Scale
from driftline.online_models.drift.monitors.windows import BLOCK, Array, Windows

CALIBRATION_SEED = 20130101
RUNS = 500
BLOCKS = 200_000 // BLOCK
WARM_UP_BLOCKS = 2
FEWEST_EXCEEDING = 10
EVIDENCE = tuple(4.0 + 0.5 * step for step in range(33))

Draw = Callable[[np.random.Generator], Iterator[Array]]


def _independent(draw: Callable[[np.random.Generator, tuple[int, int]], Array]) -> Draw:
    def blocks(random: np.random.Generator) -> Iterator[Array]:
        while True:
            yield draw(random, (BLOCK, RUNS))

    return blocks


def _autoregressive(memory: float) -> Draw:
    """x(t) = memory * x(t-1) + noise, of variance 1."""

    def blocks(random: np.random.Generator) -> Iterator[Array]:
        x = random.standard_normal(RUNS)
        while True:
            noise = random.standard_normal((BLOCK, RUNS)) * (1.0 - memory * memory) ** 0.5
            for row in noise:
                row += memory * x
                x = row.copy()
            yield noise

    return blocks


def _clustered(share: float, stay: float) -> Draw:
    """An event that holds for 1 / (1 - stay) values on average."""

    def blocks(random: np.random.Generator) -> Iterator[Array]:
        on = random.random(RUNS) < share
        begin = share * (1.0 - stay) / (1.0 - share)
        while True:
            drawn = random.random((BLOCK, RUNS))
            for row in drawn:
                on = np.where(on, row < stay, row < begin)
                row[:] = on
            yield drawn

    return blocks


def _rare(share: float) -> Draw:
    return _independent(lambda random, shape: (random.random(shape) < share).astype(float))


NUMBERS: dict[str, Draw] = {
    "normal": _independent(lambda random, shape: random.standard_normal(shape)),
    "Student's t of 2 degrees": _independent(lambda random, shape: random.standard_t(2, shape)),
    "log-normal of 1.5": _independent(lambda random, shape: np.exp(1.5 * random.standard_normal(shape))),
    "exponential": _independent(lambda random, shape: random.exponential(size=shape)),
    "exponential, 97 % zero": _independent(
        lambda random, shape: random.exponential(size=shape) * (random.random(shape) < 0.03)
    ),
    "normal, 5 % missing": _independent(
        lambda random, shape: np.where(random.random(shape) < 0.05, np.nan, random.standard_normal(shape))
    ),
    **{f"AR(1) of {memory}": _autoregressive(memory) for memory in (0.5, 0.9, 0.99, 0.999)},
}
EVENTS: dict[str, Draw] = {
    **{f"rate {share}": _rare(share) for share in (0.5, 0.2, 0.05, 0.005, 0.0005)},
    "rate 0.05, runs of 10": _clustered(0.05, 0.9),
    "rate 0.3, runs of 50": _clustered(0.3, 0.98),
}


def _squashed(blocks: Iterator[Array], spread: bool) -> Iterator[Array]:
    """Numbers as a monitor of their mean, or of their spread, sees them."""
    sample = np.concatenate([next(blocks) for _ in range(WARM_UP_BLOCKS)])
    scales = [Scale.of(column[~np.isnan(column)].tolist()) for column in sample.T]
    center, width, offset, square = (np.array(part) for part in zip(*scales, strict=True))
    for block in blocks:
        u = (block - center) / width
        q = u / (1.0 + np.abs(u))
        yield np.nan_to_num(q * q - square if spread else q - offset)


def first_exceedances(streams: Iterator[Array]) -> Array:
    """Of each level of evidence and column, the block of the first exceedance, or `BLOCKS`."""
    windows = Windows()
    windows.insert([0] * RUNS)
    levels = np.array(EVIDENCE)[:, None]
    first = np.full((len(EVIDENCE), RUNS), BLOCKS)
    for number in range(BLOCKS):
        values = next(streams)
        block = np.zeros((4, RUNS))
        block[0], block[1] = values.mean(0), (values * values).mean(0)
        for exceedance in windows.update(block, EVIDENCE[0]):
            at_most = levels[:, 0] <= exceedance.evidence
            column = first[:, exceedance.column]
            column[at_most & (column == BLOCKS)] = number
    return first


def log_times(first: Array) -> list[float]:
    """ln of the mean blocks between exceedances, by level of evidence."""
    counts = (first < BLOCKS).sum(1)
    times = [log(watched / max(count, 1)) for watched, count in zip(first.sum(1), counts, strict=True)]
    measured = [row for row, count in enumerate(counts) if count >= FEWEST_EXCEEDING]
    if len(measured) < 2:  # hardly ever: what is known is that it takes longer than all of the run
        return [
            time + (level - EVIDENCE[0]) for time, level in zip(times[:1] * len(times), EVIDENCE, strict=True)
        ]
    last = measured[-1]
    base = max(measured[0], last - 4)
    slope = (times[last] - times[base]) / (EVIDENCE[last] - EVIDENCE[base])
    for row in range(last + 1, len(times)):
        times[row] = times[last] + slope * (EVIDENCE[row] - EVIDENCE[last])
    return times


def measure() -> dict[str, Any]:
    """The table, with what each scenario gave."""
    scenarios: dict[str, list[float]] = {}
    streams: list[tuple[str, Draw, bool | None]] = [
        *((f"{name}: mean", draw, False) for name, draw in NUMBERS.items()),
        *((f"{name}: spread", draw, True) for name, draw in NUMBERS.items()),
        *((name, draw, None) for name, draw in EVENTS.items()),
    ]
    for number, (name, draw, spread) in enumerate(streams):
        blocks = draw(np.random.default_rng([CALIBRATION_SEED, number]))
        times = log_times(first_exceedances(blocks if spread is None else _squashed(blocks, spread)))
        scenarios[name] = [round(time, 3) for time in times]
        print(name, scenarios[name][8:17:2], file=sys.stderr, flush=True)
    shortest = np.maximum.accumulate([min(times) for times in zip(*scenarios.values(), strict=True)])
    return {
        "made_by": "python -m driftline.online_models.drift.threshold_calibration",
        "seed": CALIBRATION_SEED,
        "runs": RUNS,
        "blocks": BLOCKS,
        "events_a_block": BLOCK,
        "table": [
            {"evidence": level, "log_blocks": round(float(time), 3)}
            for level, time in zip(EVIDENCE, shortest, strict=True)
        ],
        "log_blocks_by_scenario": scenarios,
    }


if __name__ == "__main__":
    Path(__file__).with_name("thresholds.json").write_text(json.dumps(measure(), indent=1) + "\n", "utf-8")
