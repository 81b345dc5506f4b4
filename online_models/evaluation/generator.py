"""Streams with known drifts: a seed and a plan always give the same examples and the same changes.

The kinds of drift are those of Gama et al. 2014, A survey on concept drift adaptation, figure 2. A concept is
any iterable of (features, label), such as one of River's generators. Only as many examples as needed are
taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from math import exp
from random import Random
from typing import Any

from driftline.online_models.evaluation.stream import ChangeKind, Example, KnownChange, LabelKind, Stream

Concept = Iterable[tuple[dict[Any, Any], Any]]
Labeller = Callable[[Any], Any]


def _example(pair: tuple[dict[Any, Any], Any], label: Labeller) -> Example:
    x, y = pair
    return Example({str(name): value for name, value in x.items()}, label(y))


def abrupt(
    name: str,
    kind: LabelKind,
    concepts: Sequence[Concept],
    period: int,
    *,
    label: Labeller = bool,
    about: str = "",
) -> Stream:
    """Each concept for `period` examples, and the last one without end."""

    def source() -> Iterator[Example]:
        feeds = [iter(concept) for concept in concepts]
        for number in count():
            yield _example(next(feeds[min(number // period, len(feeds) - 1)]), label)

    changes = (KnownChange("abrupt", i * period, i * period) for i in range(1, len(concepts)))
    return Stream(name, kind, source, tuple(changes), about)


def recurring(
    name: str,
    kind: LabelKind,
    concepts: Sequence[Concept],
    period: int,
    examples: int,
    *,
    label: Labeller = bool,
    about: str = "",
) -> Stream:
    """The concepts in turn, repeatedly, each for `period` examples. Each continues where it stopped."""

    def source() -> Iterator[Example]:
        feeds = [iter(concept) for concept in concepts]
        for number in range(examples):
            yield _example(next(feeds[number // period % len(feeds)]), label)

    kinds: list[ChangeKind] = [
        "abrupt" if i < len(concepts) else "recurring" for i in range(examples // period + 1)
    ]
    changes = (KnownChange(kinds[i], i * period, i * period) for i in range(1, -(-examples // period)))
    return Stream(name, kind, source, tuple(changes), about)


def gradual(
    name: str,
    kind: LabelKind,
    before: Concept,
    after: Concept,
    at: int,
    width: int,
    seed: int,
    *,
    label: Labeller = bool,
    about: str = "",
) -> Stream:
    """A gradual change: over `width` examples around `at`, the share of the new concept rises as a sigmoid of
    slope 4 / width (Bifet et al. 2009, New ensemble methods for evolving data streams, section 4.1)."""

    def source() -> Iterator[Example]:
        old, new, chance = iter(before), iter(after), Random(seed)
        for number in count():
            share = 1.0 / (1.0 + exp(min(-4.0 * (number - at) / width, 700.0)))
            yield _example(next(new if chance.random() < share else old), label)

    change = KnownChange("gradual", at - width // 2, at + width // 2)
    return Stream(name, kind, source, (change,), about)


def incremental(
    name: str,
    start: int,
    end: int,
    seed: int,
    *,
    features: int = 6,
    noise: float = 0.05,
    about: str = "",
) -> Stream:
    """A hyperplane through the centre of the unit cube that rotates from one random direction to another.

    The label is the side of the hyperplane; the share `noise` of labels is wrong.
    """

    def source() -> Iterator[Example]:
        rng = Random(seed)
        old, new = ([rng.gauss(0.0, 1.0) for _ in range(features)] for _ in range(2))
        for number in count():
            turned = min(max((number - start) / (end - start), 0.0), 1.0)
            x = [rng.random() for _ in range(features)]
            side = sum(
                ((1.0 - turned) * a + turned * b) * (value - 0.5)
                for a, b, value in zip(old, new, x, strict=True)
            )
            y = (side > 0.0) != (rng.random() < noise)
            yield Example({f"x{i}": value for i, value in enumerate(x)}, y)

    return Stream(name, "binary", source, (KnownChange("incremental", start, end),), about)


def _broken(
    stream: Stream,
    kind: ChangeKind,
    feature: str,
    at: int,
    until: int | None,
    apply: Callable[[], Callable[[dict[str, Any]], None]],
) -> Stream:
    """The stream, with `apply`'s function applied to a copy of the features of the examples at .. until -
    1."""

    def source() -> Iterator[Example]:
        change = apply()
        for number, example in enumerate(stream):
            if number >= at and (until is None or number < until):
                x = dict(example.x)
                change(x)
                example = example._replace(x=x)
            yield example

    changes = [*stream.changes, KnownChange(kind, at, at, feature)]
    if until is not None:
        changes.append(KnownChange(kind, until, until, feature))
    return replace(stream, source=source, changes=tuple(sorted(changes, key=lambda change: change.start)))


def unit_change(stream: Stream, feature: str, at: int, factor: float, until: int | None = None) -> Stream:
    """Multiply the feature by `factor`, as if its unit changed, from example `at` on (until `until`)."""

    def apply() -> Callable[[dict[str, Any]], None]:
        def scale(x: dict[str, Any]) -> None:
            if feature in x:
                x[feature] *= factor

        return scale

    return _broken(stream, "unit change", feature, at, until, apply)


def frozen_feature(stream: Stream, feature: str, at: int, until: int | None = None) -> Stream:
    """Keep the feature's value of example `at` from there on (until example `until`)."""

    def apply() -> Callable[[dict[str, Any]], None]:
        held: list[Any] = []

        def freeze(x: dict[str, Any]) -> None:
            if not held and feature in x:
                held.append(x[feature])
            if held:
                x[feature] = held[0]

        return freeze

    return _broken(stream, "frozen feature", feature, at, until, apply)


def missing_values(
    stream: Stream, feature: str, at: int, rate: float, seed: int, until: int | None = None
) -> Stream:
    """Remove the feature from the share `rate` of examples, from `at` on (until example `until`)."""

    def apply() -> Callable[[dict[str, Any]], None]:
        chance = Random(seed)

        def drop(x: dict[str, Any]) -> None:
            if chance.random() < rate:
                x.pop(feature, None)

        return drop

    return _broken(stream, "missing values", feature, at, until, apply)
