"""Several tasks on one case: a case for each, which all read one log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from driftline.declaration_check import shown, suggestion
from driftline.online_models.members.member import PerKey, Shared
from driftline.streams.errors import DeclarationError

if TYPE_CHECKING:
    from driftline.online_models.tasks.protocol import Task
    from driftline.streams.declare.usecase import UseCase


class NoSingleTask:
    """The task of a case that has several. Whatever is asked of it raises DeclarationError, so that nothing
    works for one of them and leaves the others out."""

    __slots__ = ("_told",)

    def __init__(self, told: str) -> None:
        self._told = told

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # asked by Python itself, as when it is copied
            raise AttributeError(name)
        raise DeclarationError(self._told)


class ModelsByTask(dict[str, PerKey | Shared]):
    """The models of a case that has several tasks, by the task's name. What one task's models have raises
    DeclarationError, as `NoSingleTask` does."""

    def __init__(self, models: Mapping[str, PerKey | Shared], told: str) -> None:
        super().__init__(models)
        self._told = told

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise DeclarationError(self._told)


def settle_tasks(case: UseCase, task: Any, models: Any) -> None:
    """Check `tasks`, and put in place what stands for `task` and `models` beside several: the only task of a
    list is that of the case. Raises DeclarationError."""
    tasks = _checked(case, task)
    names = [one.name for one in tasks]
    by_task = _models_of(case, names, models)
    if len(tasks) == 1:
        settled: dict[str, Any] = {"task": tasks[0], "models": by_task[names[0]], "tasks": ()}
    else:
        told = (
            f"{case.name} has the tasks {', '.join(names)}, and this works with one of them: take the case "
            f"of one, .of({names[0]!r}); a command takes CASE@{names[0]}"
        )
        settled = {"task": NoSingleTask(told), "models": ModelsByTask(by_task, told), "tasks": tuple(tasks)}
    for name, value in settled.items():
        object.__setattr__(case, name, value)


def _checked(case: UseCase, task: Any) -> list[Task]:
    if not isinstance(case.tasks, (list, tuple)):
        raise _wrong(case, f"tasks: expected a list of tasks, not {shown(case.tasks)}")
    for one in case.tasks:
        if isinstance(one, type) or not hasattr(one, "label"):
            raise _wrong(
                case,
                "tasks: expected Binary(...), Multiclass(...), Regression(...) or Anomaly(...), not "
                f"{shown(one)}",
            )
    tasks = list(case.tasks)
    if task is not None and not isinstance(task, NoSingleTask) and task not in tasks:
        raise _wrong(case, f"the task {getattr(task, 'name', task)!r} is none of its tasks: leave out task=")
    names = [one.name for one in tasks]
    for name in names:
        if names.count(name) > 1:
            raise _wrong(case, f"tasks: two are called {name!r}, and predictions tell tasks by their names")
    first = tasks[0]
    for one in tasks[1:]:
        if one.ask is not first.ask:
            raise _wrong(
                case,
                f"tasks: {first.name!r} asks at {first.ask.__name__}, {one.name!r} at {one.ask.__name__}. "
                "Tasks of one case answer the same requests: declare another case for other ones",
            )
        if one.label.on != first.label.on:
            raise _wrong(
                case,
                f"tasks: labels of {first.name!r} join on {first.label.on!r}, those of {one.name!r} on "
                f"{one.label.on!r}. The log is written once for all tasks, by one such field",
            )
    return tasks


def _models_of(case: UseCase, names: list[str], models: Any) -> dict[str, PerKey | Shared]:
    if isinstance(models, (PerKey, Shared)) and len(names) == 1:
        return {names[0]: models}
    if not isinstance(models, Mapping):
        raise _wrong(
            case, f"models: expected models for each of the tasks, {{{names[0]!r}: ...}}, not {shown(models)}"
        )
    for name in models:
        if name not in names:
            raise _wrong(case, f"models: {name!r} is none of the tasks{suggestion(name, names)}")
    for name in names:
        if not isinstance(models.get(name), (PerKey, Shared)):
            raise _wrong(
                case, f"models: expected PerKey or Shared for {name!r}, not {shown(models.get(name))}"
            )
    return {name: models[name] for name in names}


def case_of_task(case: UseCase, name: str) -> UseCase:
    """The case of one of several tasks. That of the first has the names of the case itself, so that a case
    may get further tasks while it runs; another is named after its task too, and reads the log of the first.
    """
    cases = case.each()
    found = [one for one in cases if one.task.name == name]
    if not found:
        names = [one.task.name for one in cases]
        raise DeclarationError(
            f"{case.name} has no task {name!r}{suggestion(name, names)}; it has {', '.join(names)}"
        )
    return found[0]


def cases_of_tasks(case: UseCase) -> tuple[UseCase, ...]:
    """The cases of several tasks. They keep their topics equally long: the log is one of them."""
    cases = [
        replace(
            case,
            name=f"{case.name}-{task.name}" if number else case.name,
            log_of=case.name if number else "",
            task=task,
            models=case.models[task.name],  # type: ignore[index]  # they are ModelsByTask here
            tasks=(),
        )
        for number, task in enumerate(case.tasks)
    ]
    kept = max(one.topics().retention for one in cases)
    return tuple(replace(one, retention=kept) for one in cases)


def _wrong(case: UseCase, reason: str) -> DeclarationError:
    return DeclarationError(f"{case.name}: {reason}")
