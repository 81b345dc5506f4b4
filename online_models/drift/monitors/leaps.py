"""Leaps: values far out of a range that is known, which show what changes too slowly for windows."""

from __future__ import annotations

import numpy as np

from driftline.online_models.drift.monitors.windows import Array

FAMILIAR = 16
"""Blocks of a stream that make its range known, if it grows by no more than `GROWTH` in as many again. One
whose every value is beyond that range, by more than `LEAP` of its widths or, towards 0, by its width in
logarithms, is of another stream: so breaks show of what changes too slowly for windows."""
GROWTH = 2.0
LEAP = 4.0
NARROW = 1e-9
"""A range narrower than this share of its values is rounding."""


def far_beyond(low: Array, high: Array, before: Array, least: Array, largest: Array) -> Array:
    """Of each stream, whether all values from `least` to `largest` are far out of its range.

    `before` is the width that the range from `low` to `high` had when its stream was half as old; 0 where
    it is not known yet.
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):  # ranges that are empty yet
        width = high - low
        known = (before > 0.0) & (width <= GROWTH * before)
        known &= width > NARROW * np.maximum(np.abs(low), np.abs(high))
        far: Array = (least > high + LEAP * width) | (largest < low - LEAP * width)
        far |= (low > 0.0) & (largest < low * (low / high))
        far |= (high < 0.0) & (least > high * (high / low))
        return known & far
