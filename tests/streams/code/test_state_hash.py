"""The hash of a state tells states apart by their values, and by nothing else."""

from __future__ import annotations

import array
import collections
import copy
import dataclasses
import datetime
import decimal
import enum
import functools
import json
import os
import pickle
import random
import subprocess
import sys
import threading
import zoneinfo
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from river import (
    drift,
    ensemble,
    forest,
    linear_model,
    naive_bayes,
    neighbors,
    preprocessing,
    proba,
    stats,
    tree,
)

from driftline.streams.code.state_hash import state_hash
from driftline.streams.errors import NoCanonicalForm

TRAINED = 400
MORE = 100


def logistic_regression() -> Any:
    return preprocessing.StandardScaler() | linear_model.LogisticRegression()


MODELS: dict[str, Callable[[], Any]] = {
    "LogisticRegression": logistic_regression,
    "GaussianNB": naive_bayes.GaussianNB,
    "HoeffdingTree": tree.HoeffdingTreeClassifier,
    "HoeffdingAdaptiveTree": lambda: tree.HoeffdingAdaptiveTreeClassifier(grace_period=50, seed=1),
    "ExtremelyFastDecisionTree": tree.ExtremelyFastDecisionTreeClassifier,
    "ARF": lambda: forest.ARFClassifier(n_models=3, seed=1),
    "AMF": lambda: forest.AMFClassifier(n_estimators=2, seed=1),
    "SRP": lambda: ensemble.SRPClassifier(n_models=2, seed=1),
    "Bagging": lambda: ensemble.BaggingClassifier(logistic_regression(), n_models=3, seed=1),
    "LeveragingBagging": lambda: ensemble.LeveragingBaggingClassifier(
        tree.HoeffdingTreeClassifier(), n_models=2, seed=1
    ),
    "KNN": lambda: neighbors.KNNClassifier(engine=neighbors.LazySearch(window_size=100)),
    "ADWINBagging": lambda: ensemble.ADWINBaggingClassifier(logistic_regression(), n_models=2, seed=1),
}


def samples(count: int) -> Iterator[tuple[dict[str, float], bool]]:
    generator = random.Random(7)
    for _ in range(count):
        x = {name: generator.random() for name in ("air", "sea", "land", "fire")}
        yield x, x["air"] + x["sea"] * x["land"] > 0.7


def learn(model: Any, first: int, last: int) -> Any:
    for x, y in list(samples(last))[first:]:
        model.learn_one(x, y)
    return model


def round_trip(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value, protocol=5))


def print_hashes() -> None:
    """Run in other processes, with other seeds of their string hashes."""
    hashes = {name: state_hash(learn(make(), 0, TRAINED)) for name, make in MODELS.items()}
    hashes["sets"] = state_hash(
        [{"one", "two", "three"}, frozenset({("a", 1), ("b", None)}), {frozenset("xyz")}]
    )
    print(json.dumps(hashes))


@pytest.mark.parametrize("name", MODELS)
def test_a_river_model_and_its_restored_copy_are_and_stay_in_one_state(name: str) -> None:
    model = learn(MODELS[name](), 0, TRAINED)
    restored = round_trip(model)
    before = state_hash(model)
    assert state_hash(restored) == before
    assert state_hash(learn(MODELS[name](), 0, TRAINED)) == before
    learn(model, TRAINED, TRAINED + MORE)
    learn(restored, TRAINED, TRAINED + MORE)
    assert state_hash(restored) == state_hash(model) != before


@pytest.mark.parametrize("name", MODELS)
def test_one_more_event_learned_is_another_state(name: str) -> None:
    model = learn(MODELS[name](), 0, TRAINED)
    before = state_hash(model)
    assert state_hash(learn(model, TRAINED, TRAINED + 1)) != before


def test_the_hash_is_the_same_in_processes_with_other_hash_seeds() -> None:
    code = f"import runpy; runpy.run_path({__file__!r})['print_hashes']()"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": seed}, stdout=subprocess.PIPE
        )
        for seed in ("1", "2")
    ]
    first, second = (json.loads(process.communicate()[0]) for process in processes)
    assert [process.returncode for process in processes] == [0, 0]
    assert first == second
    assert first["GaussianNB"] == state_hash(learn(naive_bayes.GaussianNB(), 0, TRAINED))


@pytest.mark.parametrize(
    "make", [drift.ADWIN, drift.PageHinkley, stats.Var, stats.EWMean, stats.RollingQuantile]
)
def test_compiled_detectors_and_statistics_are_reached(make: Callable[..., Any]) -> None:
    detector = make(q=0.5, window_size=50) if make is stats.RollingQuantile else make()
    hashes = set()
    for x, _ in samples(300):
        detector.update(x["air"])
        assert state_hash(round_trip(detector)) == state_hash(detector)
        hashes.add(state_hash(detector))
    assert len(hashes) == 300


def test_a_distribution_has_its_generator_in_its_state_only_if_seeded() -> None:
    assert state_hash(proba.Gaussian()) == state_hash(proba.Gaussian())
    seeded = proba.Gaussian(seed=1)
    seeded.update(1.0)
    before = state_hash(seeded)
    seeded.sample()
    assert state_hash(seeded) != before


class Colour(enum.Enum):
    RED = 1
    BLUE = (2, "blue")


class Permission(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


@dataclasses.dataclass(slots=True)
class Slotted:
    left: Any
    right: Any = None


class Plain:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Counted(dict[str, int]):
    pass


class Labels(set[str]):
    pass


Pair = collections.namedtuple("Pair", "x y")

AWARE = datetime.datetime(2013, 1, 1, 5, tzinfo=zoneinfo.ZoneInfo("America/New_York"))

# no two are the same
DISTINCT: list[Any] = [
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2**70,
        -(2**70),
        10**5000,
        0.0,
        -0.0,
        1.0,
        float("nan"),
        float("inf"),
        1j,
        0j,
    ),
    *(
        "",
        "a",
        "1",
        "é",
        "\ud800",
        b"",
        b"a",
        bytearray(b"a"),
        (),
        [],
        {},
        set(),
        frozenset(),
        ...,
        NotImplemented,
    ),
    *((1,), [1], (1, 2), (2, 1), ((1,), 2), (1, (2,)), [[]], [[], []], {1: 2}, {1}, frozenset({1}), {1, 2}),
    *({"a": 1, "b": 2}, {"b": 2, "a": 1}, Counted(a=1, b=2), collections.Counter(a=1, b=2)),
    *(collections.OrderedDict(a=1), collections.defaultdict(int, a=1), collections.defaultdict(list, a=1)),
    *(collections.deque([1, 2]), collections.deque([1, 2], maxlen=2), collections.deque([2, 1], maxlen=2)),
    *(
        array.array("d", [1.0]),
        array.array("f", [1.0]),
        Labels({"a"}),
        {"a"},
        Pair(1, 2),
        Slotted(1),
        Slotted(2),
    ),
    *(Slotted(1, 2), Plain(), Plain(a=1), Plain(a=1.0), Plain(b=1), int, float, type(None), Slotted, len),
    *(Colour.RED, Colour.BLUE, Permission.READ, Permission.READ | Permission.WRITE, round_trip, state_hash),
    *(datetime.datetime(2013, 1, 1), AWARE, AWARE.replace(fold=1), AWARE.replace(tzinfo=datetime.UTC)),
    *(datetime.date(2013, 1, 1), datetime.timedelta(1), decimal.Decimal("1.0"), decimal.Decimal("1.00")),
    *(functools.partial(int, base=2), functools.partial(int, base=3), [].append, "a".join, np.exp, np.log),
    *(np.float64(1.0), np.float32(1.0), np.int64(1), np.bool_(True), np.datetime64("2013"), np.str_("a")),
    *(np.zeros(2), np.zeros(2, np.float32), np.zeros((1, 2)), np.zeros((2, 1)), np.array([0.0, -0.0])),
    *(np.array([None, 1], object), np.array([1, None], object), np.array(["a"]), np.array("a")),
    *(np.zeros(1, [("x", "f8")]), np.zeros(1, [("y", "f8")]), np.zeros(0), np.dtype("f8"), np.dtype("f4")),
    *(random.Random(1), random.Random(2), np.random.default_rng(1), np.random.default_rng(2)),
    *(np.random.RandomState(1), np.random.RandomState(2)),
]


def test_values_that_differ_in_value_type_or_order_differ() -> None:
    hashes = collections.defaultdict(list)
    for value in DISTINCT:
        hashes[state_hash(value)].append(value)
    assert [same for same in hashes.values() if len(same) > 1] == []


@pytest.mark.parametrize("value", DISTINCT, ids=lambda value: type(value).__name__)
def test_a_restored_value_has_the_same_hash(value: Any) -> None:
    assert state_hash(round_trip(value)) == state_hash(value)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(VALUES, VALUES)
def test_plain_values_have_one_hash_exactly_if_they_read_the_same(left: Any, right: Any) -> None:
    """`repr` tells types, order, -0.0 and every bit of a float."""
    assert (state_hash(left) == state_hash(right)) == (repr(left) == repr(right))
    assert state_hash(copy.deepcopy(left)) == state_hash(left)


@given(
    st.lists(VALUES.map(repr) | st.integers() | st.tuples(st.integers(), st.text()), unique=True),
    st.randoms(),
)
def test_a_set_has_no_order(elements: list[Any], order: random.Random) -> None:
    shuffled = list(elements)
    order.shuffle(shuffled)
    grown = set(range(1000)) - set(range(1000))  # a larger table iterates in another order
    grown.update(shuffled)
    assert state_hash(grown) == state_hash(set(elements))


@given(st.floats(width=64), st.floats(width=64))
def test_floats_are_distinguished_by_their_bits(left: float, right: float) -> None:
    same = np.float64(left).tobytes() == np.float64(right).tobytes()
    assert (state_hash(left) == state_hash(right)) == same


@pytest.mark.parametrize(
    ("generator", "draw"),
    [
        (random.Random(1), lambda generator: generator.gauss(0, 1)),
        (np.random.default_rng(1), lambda generator: generator.normal()),
        (np.random.RandomState(1), lambda generator: generator.normal()),
    ],
    ids=["Random", "Generator", "RandomState"],
)
def test_each_number_drawn_is_another_state(generator: Any, draw: Callable[[Any], float]) -> None:
    hashes = set()
    for _ in range(10):
        hashes.add(state_hash(generator))
        draw(generator)
    assert len(hashes) == 10


def test_the_order_in_which_attributes_were_set_is_nothing() -> None:
    assert state_hash(Plain(a=1, b=2)) == state_hash(Plain(b=2, a=1))


def test_strides_are_nothing() -> None:
    grid = np.arange(12.0).reshape(3, 4)
    assert (
        state_hash(grid.T)
        == state_hash(np.ascontiguousarray(grid.T))
        == state_hash(np.asfortranarray(grid.T))
    )
    assert state_hash(grid[:, ::2]) == state_hash(grid[:, ::2].copy())


def test_one_object_twice_and_two_equal_ones_are_the_same() -> None:
    shared = [1.0, Plain(a=[2])]
    assert state_hash([shared, shared]) == state_hash([shared, copy.deepcopy(shared)])


def test_shared_objects_are_entered_once() -> None:
    value: Any = [1]
    for _ in range(200):  # 2 ** 200 paths
        value = (value, value)
    assert len(state_hash(value)) == 64


def test_depth_is_no_limit() -> None:
    nested: Any = None
    for _ in range(20_000):
        nested = [nested]
    linked: Any = None
    for number in range(5_000):
        linked = Slotted(number, linked)
    assert state_hash(nested) != state_hash(nested[0])
    assert state_hash(linked) != state_hash(linked.right)


def ring(size: int) -> Plain:
    first = last = Plain()
    for _ in range(size - 1):
        last.next = Plain()  # type: ignore[attr-defined]
        last = last.next  # type: ignore[attr-defined]
    last.next = first  # type: ignore[attr-defined]
    return first


def family(children: int, odd: int) -> Plain:
    parent = Plain(children=[])
    parent.children += [Plain(parent=parent, odd=number == odd) for number in range(children)]  # type: ignore[attr-defined]
    return parent


def test_cycles_are_distinguished_by_their_shape_and_kept_by_a_restore() -> None:
    itself: list[Any] = []
    itself.append(itself)
    outside = family(3, 1)
    cycles = [
        *(itself, [itself], ring(1), ring(2), ring(3), family(2, 0), family(2, 1), family(3, 1)),
        *([outside, outside.children[0]], [outside, outside.children[2]]),  # type: ignore[attr-defined]
    ]
    hashes = [state_hash(cycle) for cycle in cycles]
    assert len(set(hashes)) == len(cycles)
    assert [state_hash(round_trip(cycle)) for cycle in cycles] == hashes
    assert state_hash([outside, family(3, 1)]) == state_hash([outside, outside])


def test_a_set_above_a_cycle_is_refused_rather_than_hashed_by_accident() -> None:
    with pytest.raises(NoCanonicalForm, match="a set with a cycle beneath it"):
        state_hash({ring(2), ring(3)})
    member = Plain()
    member.group = {member}  # type: ignore[attr-defined]
    with pytest.raises(NoCanonicalForm, match="a set with a cycle beneath it"):
        state_hash(member)


def test_what_has_no_meaning_in_another_process_is_refused() -> None:
    class Local:
        pass

    labels = Labels({"a"})
    labels.note = 1  # type: ignore[attr-defined]
    without_form = [
        lambda: None,
        Local,
        Local(),
        threading.Lock(),
        iter(samples(1)),
        random.SystemRandom(),
        labels,
    ]
    for value in without_form:
        with pytest.raises(NoCanonicalForm):
            state_hash([value])


def test_the_hash_is_fixed() -> None:
    """A change of it makes every recorded hash of a state one of another state."""
    value = {
        "a": [1, -0.0, None, (True, b"x")],
        "s": {1, 2},
        "n": np.arange(3),
        "w": collections.deque([1.5], 2),
    }
    assert state_hash(value) == "3a73c1c3a96495eb0f4314827ab4c0e1514270849300510257c04760f38ec512"
