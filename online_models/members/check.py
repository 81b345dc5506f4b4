"""Checks whether a member can run: it predicts, learns, is pickled, and is compared with a second one."""

from __future__ import annotations

import inspect
import io
import pickle
import random
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

import numpy as np
from river.base import Base, Classifier, MultiLabelClassifier, MultiTargetRegressor

from driftline.errors import pass_interrupt
from driftline.online_models.errors import ModelDeclarationError, reason_of
from driftline.online_models.members.member import Member, PerKey, copied
from driftline.online_models.tasks.protocol import Task

SEEDS = ("seed", "random_state", "rng")
"""Names of parameters by which estimators of River and others are seeded."""
_ASKED = {"binary": "predict_proba_one", "multiclass": "predict_proba_one", "regression": "predict_one"}
_LABELS: Mapping[str, Sequence[Any]] = {
    "binary": (True, False, False),
    "multiclass": ("a", "b", "c"),
    "regression": (1.5, -2.0, 3.25, 0.5),
}


def check_models(scope: PerKey, task: Task, requests: Sequence[Mapping[str, Any]]) -> None:
    """Check every declared member; raises ModelDeclarationError of the first that cannot be run."""
    for entry in (scope.champion, *scope.challengers):
        if isinstance(entry, Member):
            check_member(entry, task, requests)


def check_member(member: Member, task: Task, requests: Sequence[Mapping[str, Any]]) -> None:
    """Build a member twice, let both answer and learn from `requests`, pickle one in the middle.

    Raises ModelDeclarationError if `build` returns something else than an estimator for the task, if a seed
    is missing, if it cannot be pickled, and if the two, or one and its restored copy, differ. An answer that
    is not finite, or an exception, is allowed: members may fail at times.
    """
    first, second = member.born(), member.born()
    _check_kind(member, first, task)
    for path in unseeded(first):
        raise ModelDeclarationError(
            f"member {member.name!r}: {path} is None, so that every run draws other random numbers and no "
            f"answer can be proven: give it a number, such as {_seeded(path)}"
        )
    if _generators(first) != _generators(second):
        raise ModelDeclarationError(
            f"member {member.name!r}: two estimators that build() made have generators of random numbers in "
            "different states: seed them with a number"
        )
    _check_answer(member, copied(first, member.name), task, requests)
    _compare(member, task, (task.prepared(first), task.prepared(second)), requests)


def unseeded(estimator: Any) -> Iterator[str]:
    """Paths of the parameters, those of nested estimators too, that would seed it and are None."""
    yield from _unseeded(estimator, "", set())


def _seeded(path: str) -> str:
    """How the last estimator of a path is written with a seed."""
    name, parameter = path.split(".")[-2:]
    return f"{name}({parameter}=1)"


def _unseeded(value: Any, path: str, seen: set[int]) -> Iterator[str]:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Mapping):
        nested = [(str(name), part) for name, part in value.items()]
    elif isinstance(value, (list, tuple)):
        nested = [(str(number), part) for number, part in enumerate(value)]
    elif isinstance(value, Base) or hasattr(value, "learn_one"):
        path = f"{path}.{type(value).__name__}" if path else type(value).__name__
        nested = list(_parameters(value))
        yield from (f"{path}.{name}" for name, part in nested if name in SEEDS and part is None)
    else:
        return
    for name, part in nested:
        yield from _unseeded(part, f"{path}.{name}" if path else name, seen)


def _parameters(estimator: Any) -> Iterator[tuple[str, Any]]:
    """What an estimator was made with, where it keeps that under the names of its parameters; a pipeline's
    steps."""
    try:
        names = list(inspect.signature(type(estimator)).parameters)
    except (TypeError, ValueError):  # compiled, without a signature
        return
    for name in names:
        if hasattr(estimator, name):
            yield name, getattr(estimator, name)


class _GeneratorsFinder(pickle.Pickler):
    """Meets every object of an estimator, and keeps the states of the generators among them."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), protocol=5)
        self.states: list[str] = []

    def persistent_id(self, obj: Any) -> None:
        if isinstance(obj, random.Random):
            self.states.append(repr(obj.getstate()))
        elif isinstance(obj, np.random.BitGenerator):
            self.states.append(repr(obj.state))
        elif isinstance(obj, np.random.RandomState):
            self.states.append(repr(obj.get_state(legacy=False)))


def _generators(estimator: Any) -> list[str]:
    finder = _GeneratorsFinder()
    finder.dump(estimator)
    return finder.states


def _last(estimator: Any) -> Any:
    """The object that answers: the last step of a pipeline."""
    steps = getattr(estimator, "steps", None)
    return _last(list(steps.values())[-1]) if isinstance(steps, Mapping) and steps else estimator


def _check_kind(member: Member, estimator: Any, task: Task) -> None:
    asked = _ASKED[task.kind] if task.is_supervised else "score_one"
    taught = ("x", "y") if task.is_supervised else ("x",)
    called = f"{asked}(x) and learn_one({', '.join(taught)})"
    wanted = f"{_with_article(type(task).__name__)} task needs an estimator with {called}"
    said = f"member {member.name!r}: build() returns"
    if isinstance(estimator, type):
        raise ModelDeclarationError(
            f"{said} the class {estimator.__name__}, not an estimator: write it with ()"
        )
    last = _last(estimator)
    name = type(last).__name__
    if not _takes(last, "learn_one", len(taught)) or not _takes(last, asked, 1):
        raise ModelDeclarationError(f"{said} {_with_article(name)}; {wanted}")
    if isinstance(last, (MultiLabelClassifier, MultiTargetRegressor)):
        raise ModelDeclarationError(
            f"{said} {_with_article(name)}, which answers with several labels; {wanted} of one"
        )
    if task.kind == "regression" and isinstance(last, Classifier):
        raise ModelDeclarationError(
            f"{said} {_with_article(name)}, which answers with classes; {wanted} of a number"
        )
    if asked == "predict_proba_one" and getattr(type(last), asked, None) is Classifier.predict_proba_one:
        raise ModelDeclarationError(f"{said} {_with_article(name)}, which gives no probabilities; {wanted}")
    if task.kind == "multiclass" and not _knows_many(last):
        raise ModelDeclarationError(
            f"{said} {_with_article(name)}, which knows two classes only: wrap it, such as in "
            f"river.multiclass.OneVsRestClassifier({name}(...))"
        )


def _knows_many(estimator: Any) -> bool:
    """Whether it handles more than two classes: it declares that, or the estimators that it wraps do."""
    last = _last(estimator)
    if getattr(last, "_multiclass", True):
        return True
    wrapped = getattr(last, "_wrapped_model", None)
    parts = getattr(last, "models", None) if wrapped is None else [wrapped]
    return isinstance(parts, Sequence) and bool(parts) and all(_knows_many(part) for part in parts)


def _check_answer(member: Member, estimator: Any, task: Task, requests: Sequence[Mapping[str, Any]]) -> None:
    """Refuse an estimator whose answer has another form than the task reads; one that raises or has no answer
    is accepted."""
    asked = _ASKED[task.kind] if task.is_supervised else "score_one"
    form, said = (Mapping, "a dict of probabilities") if asked == "predict_proba_one" else (Real, "a number")
    for x in requests[:1]:
        try:
            answer = getattr(estimator, asked)(dict(x))
        except BaseException as error:
            pass_interrupt(error)
            return  # that is for the comparison, and the pool
        if answer is not None and (not isinstance(answer, form) or isinstance(answer, bool)):
            raise ModelDeclarationError(
                f"member {member.name!r}: {asked} of its {type(_last(estimator)).__name__} answers "
                f"{_with_article(type(answer).__name__)}; "
                f"{_with_article(type(task).__name__)} task needs {said}"
            )


def _with_article(name: str) -> str:
    return f"an {name}" if name[:1] in "AEIOU" else f"a {name}"


def _takes(estimator: Any, method: str, arguments: int) -> bool:
    """Whether it has the method, to be called with so many positional arguments."""
    function = getattr(estimator, method, None)
    if not callable(function):
        return False
    try:
        inspect.signature(function).bind(*range(arguments))
    except TypeError:
        return False
    except ValueError:  # compiled, without a signature
        return True
    return True


def _compare(
    member: Member, task: Task, twins: tuple[Any, Any], requests: Sequence[Mapping[str, Any]]
) -> None:
    first, second = twins
    restored = None
    labels = _LABELS[task.kind]
    for number, x in enumerate(requests):
        if number == len(requests) // 2:
            restored = copied(first, member.name)
        y = labels[number % len(labels)]
        said = _turn(member, task, first, x, y)
        if said != _turn(member, task, second, x, y):
            raise ModelDeclarationError(
                f"member {member.name!r}: two estimators that build() made answer the same requests "
                f"differently (the first time at request {number + 1}): seed what is random in them, and "
                "let them read no clock and no state that changes"
            )
        if restored is not None and said != _turn(member, task, restored, x, y):
            raise ModelDeclarationError(
                f"member {member.name!r}: restored from its pickle it answers otherwise than before (at "
                f"request {number + 1}): a restarted worker would, too"
            )


def _turn(member: Member, task: Task, estimator: Any, x: Mapping[str, Any], y: Any) -> list[str]:
    """Its answer and the result of learning, as text, so that NaN equals NaN."""
    said = []
    try:
        said.append(repr(task.predict(estimator, dict(x))))
    except NotImplementedError as error:
        raise ModelDeclarationError(
            f"member {member.name!r}: its estimator cannot answer a {type(task).__name__} task: "
            f"{reason_of(error)}"
        ) from error
    except BaseException as error:
        pass_interrupt(error)
        said.append(reason_of(error))
    try:
        if task.is_supervised:
            estimator.learn_one(dict(x), y)
        else:
            estimator.learn_one(dict(x))
    except BaseException as error:
        pass_interrupt(error)
        said.append(reason_of(error))
    return said
