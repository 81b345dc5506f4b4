"""Streams by name: the data sets in River's package, and generated streams with known changes.

Generated streams take a seed, so that parameters tuned on one seed can be evaluated on another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from driftline.online_models.errors import ModelsError
from driftline.online_models.evaluation import generator
from driftline.online_models.evaluation.stream import Example, LabelKind, Stream

Rows = Callable[[], Iterator[tuple[dict[Any, Any], Any]]]


def _shipped(name: str, dataset: str, kind: LabelKind, about: str) -> Stream:
    def source() -> Iterator[Example]:
        from river import datasets

        label: Callable[[Any], Any] = {"binary": bool, "multiclass": str, "regression": float}[kind]
        for x, y in getattr(datasets, dataset)():
            yield Example({str(feature): value for feature, value in x.items()}, label(y))

    return Stream(name, kind, source, (), about)


class _Inverted:
    """A concept with inverted labels."""

    def __init__(self, concept: Any) -> None:
        self._concept = concept

    def __iter__(self) -> Iterator[tuple[dict[Any, Any], Any]]:
        return ((x, not y) for x, y in self._concept)


class _Rotated:
    """A concept whose feature names are shifted by three."""

    def __init__(self, concept: Any) -> None:
        self._concept = concept

    def __iter__(self) -> Iterator[tuple[dict[Any, Any], Any]]:
        for x, y in self._concept:
            names = list(x)
            yield {name: x[names[(place + 3) % len(names)]] for place, name in enumerate(names)}, y


def _rbf(centroids: int, sample: int) -> Any:
    from river.datasets import synth

    return synth.RandomRBF(seed_model=centroids, seed_sample=sample, n_features=8, n_centroids=20)


def _rbf_recurring(seed: int) -> Stream:
    concepts = [_rbf(10 * seed + i, 1000 * seed + i) for i in range(3)]
    about = "three random-RBF concepts in turn, each for 5,000 examples"
    return generator.recurring("rbf-recurring", "binary", concepts, 5_000, 30_000, about=about)


def _label_flip(seed: int) -> Stream:
    concept = _rbf(10 * seed + 7, 1000 * seed + 7), _rbf(10 * seed + 7, 1000 * seed + 8)
    about = "one random-RBF concept whose labels are inverted every 6,000 examples"
    both = [concept[0], _Inverted(concept[1])]
    return generator.recurring("label-flip", "binary", both, 6_000, 30_000, about=about)


def _sea(seed: int) -> Stream:
    from river.datasets import synth

    concepts = [synth.SEA(variant=v, noise=0.1, seed=10 * seed + v) for v in (2, 0, 3, 1)]
    about = "SEA: the threshold of a sum changes every 7,500 examples, 10 % of the labels are wrong"
    return generator.abrupt("sea-abrupt", "binary", concepts, 7_500, about=about).take(30_000)


def _agrawal(seed: int) -> Stream:
    from river.datasets import synth

    functions = (0, 2, 4, 6)
    concepts = [
        synth.Agrawal(classification_function=f, seed=10 * seed + f, perturbation=0.05) for f in functions
    ]
    about = "Agrawal: another rule for granting loans every 7,500 examples"
    return generator.abrupt("agrawal-abrupt", "binary", concepts, 7_500, about=about).take(30_000)


def _sine_gradual(seed: int) -> Stream:
    from river.datasets import synth

    before, after = (
        synth.Sine(classification_function=f, seed=10 * seed + f, has_noise=True) for f in (0, 2)
    )
    about = "Sine: one rule is replaced by another over 5,000 examples around the 10,000th"
    stream = generator.gradual("sine-gradual", "binary", before, after, 10_000, 5_000, seed, about=about)
    return stream.take(20_000)


def _hyperplane(seed: int) -> Stream:
    about = "a hyperplane that turns from the 5,000th to the 25,000th example, 5 % of the labels are wrong"
    return generator.incremental("hyperplane", 5_000, 25_000, seed, about=about).take(30_000)


def _led(seed: int) -> Stream:
    from river.datasets import synth

    concepts = [
        synth.LEDDrift(seed=10 * seed + n, noise_percentage=0.1, irrelevant_features=True, n_drift_features=n)
        for n in (0, 3, 5, 7)
    ]
    about = (
        "LED: ten digits by seven noisy segments; which features are segments changes every 5,000 examples"
    )
    return generator.abrupt("led-abrupt", "multiclass", concepts, 5_000, label=str, about=about).take(20_000)


def _friedman(seed: int) -> Stream:
    from river.datasets import synth

    concepts = [synth.Friedman(seed=10 * seed), _Rotated(synth.Friedman(seed=10 * seed + 1))]
    about = "Friedman's function of five of ten features, and the same of other features, in turn"
    return generator.recurring(
        "friedman-recurring", "regression", concepts, 5_000, 20_000, label=float, about=about
    )


GENERATED: dict[str, Callable[[int], Stream]] = {
    "rbf-recurring": _rbf_recurring,
    "label-flip": _label_flip,
    "sea-abrupt": _sea,
    "agrawal-abrupt": _agrawal,
    "sine-gradual": _sine_gradual,
    "hyperplane": _hyperplane,
    "led-abrupt": _led,
    "friedman-recurring": _friedman,
}
SHIPPED: dict[str, tuple[str, LabelKind, str]] = {
    "bananas": ("Bananas", "binary", "River's Bananas: two artificial clusters of that shape"),
    "phishing": ("Phishing", "binary", "River's Phishing: web sites, genuine or not"),
    "image-segments": ("ImageSegments", "multiclass", "River's ImageSegments: seven kinds of surface"),
    "trump-approval": ("TrumpApproval", "regression", "River's TrumpApproval: a rating from five polls"),
    "chick-weights": ("ChickWeights", "regression", "River's ChickWeights: weight by age and diet"),
}


def stream_of(name: str, seed: int = 1) -> Stream:
    """The stream of that name. Raises ModelsError for an unknown name."""
    if name in GENERATED:
        return GENERATED[name](seed)
    if name in SHIPPED:
        return _shipped(name, *SHIPPED[name])
    raise ModelsError(f"no stream {name!r}: there are {', '.join([*GENERATED, *SHIPPED])}")
