"""Cases with several tasks: each task has a case of its own, and all read one log."""

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
    """Stands for the task of a case with several tasks. Every access to it raises DeclarationError with the
    message `reason`, so that no code works with one task and ignores the others."""

    __slots__ = ("_reason",)

    def __init__(self, reason: str) -> None:
        self._reason = reason

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # Python itself asks, for example when the object is copied
            raise AttributeError(name)
        raise DeclarationError(self._reason)


class ModelsByTask(dict[str, PerKey | Shared]):
    """The models of a case with several tasks, by the task's name. Attributes of one task's models raise
    DeclarationError, as in `NoSingleTask`."""

    def __init__(self, models: Mapping[str, PerKey | Shared], reason: str) -> None:
        super().__init__(models)
        self._reason = reason

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise DeclarationError(self._reason)


def settle_tasks(case: UseCase, task: Any, models: Any) -> None:
    """Check `tasks`, and set `task` and `models`: to the objects that stand for several, or to those of the
    only task in the list. Raises DeclarationError."""
    tasks = _checked(case, task)
    names = [one.name for one in tasks]
    by_task = _models_of(case, names, models)
    if len(tasks) == 1:
        settled: dict[str, Any] = {"task": tasks[0], "models": by_task[names[0]], "tasks": ()}
    else:
        reason = (
            f"{case.name} has the tasks {', '.join(names)}, and this works with one of them: take the case "
            f"of one, .of({names[0]!r}); a command takes CASE@{names[0]}"
        )
        settled = {
            "task": NoSingleTask(reason),
            "models": ModelsByTask(by_task, reason),
            "tasks": tuple(tasks),
        }
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
        raise _wrong(case, f"the task {getattr(task, 'name', task)!r} is not one of tasks=: leave out task=")
    names = [one.name for one in tasks]
    for name in names:
        if names.count(name) > 1:
            raise _wrong(case, f"tasks: two have the name {name!r}: predictions need different task names")
    first = tasks[0]
    for one in tasks[1:]:
        if one.ask is not first.ask:
            raise _wrong(
                case,
                f"tasks: {first.name!r} asks at {first.ask.__name__}, {one.name!r} at {one.ask.__name__}. "
                "Tasks of one case answer the same requests: declare another case for other requests",
            )
        if one.label.on != first.label.on:
            raise _wrong(
                case,
                f"tasks: labels of {first.name!r} join on {first.label.on!r}, those of {one.name!r} on "
                f"{one.label.on!r}. The log is partitioned once for all tasks, so they need the same field",
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
            raise _wrong(case, f"models: {name!r} is not one of the tasks{suggestion(name, names)}")
    for name in names:
        if not isinstance(models.get(name), (PerKey, Shared)):
            raise _wrong(
                case, f"models: expected PerKey or Shared for {name!r}, not {shown(models.get(name))}"
            )
    return {name: models[name] for name in names}


def case_of_task(case: UseCase, name: str) -> UseCase:
    """The case of one of several tasks. The first task's case has the name of the case itself, so that a
    running case can get further tasks. The names of the others end with their task, and they read the first
    one's log.
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
    """The cases of several tasks. All have the same retention, since they share the log."""
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
