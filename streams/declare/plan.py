"""The stages that a case needs on a number of partitions.

A window, a pool of models and a label's join each need all their events in one partition. Those that need the
same field as key form one stage; on one partition, everything is one stage. A request passes through the
stages in order and carries the features that it has read; the last stage answers it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from driftline.features.declare.declaration import Elapsed, Feature, Lookup, OnDemand, Window
from driftline.online_models.members.member import Shared
from driftline.streams.declare.events import Event, Reference, tag_of
from driftline.streams.errors import DeclarationError

if TYPE_CHECKING:
    from driftline.streams.declare.usecase import UseCase

LOG = "events"
QUESTIONS = "questions"
"""The topic kind of the stage that answers, if that is not the log's."""
LEARNER = "examples"
"""The topic kind of the learner, if replicas answer."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One fold over a topic that is partitioned by `key`; `key` is None for a single partition.

    `topic` is the kind of the topic, such as "events" or "by-merchant". `computes` describes the work of the
    fold, and `features` are the names of the features that it reads.
    """

    topic: str
    key: str | None
    partitions: int
    computes: tuple[str, ...]
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """The stages of a case, in the order in which a request goes through them.

    `entries` are, by the tag of an event, the fields that decide its partition in the log; None for events
    that go to every partition. `stops` are, by tag, the stages behind the log that an event visits.
    `label_hops` is the number of topics that a label is written to.
    """

    case: str
    partitions: int
    stages: tuple[Stage, ...]
    entries: Mapping[str, str | None]
    stops: Mapping[str, tuple[int, ...]]
    label_hops: int

    @property
    def request_hops(self) -> int:
        """The number of topics that a request is written to until it is answered: one for each stage."""
        return len(self.stages)

    @property
    def serving(self) -> int:
        """The index of the stage that answers: the last one, or the stage of the replicas before it."""
        return len(self.stages) - (2 if self.is_replicated else 1)

    @property
    def is_replicated(self) -> bool:
        """Whether replicas answer and the last stage learns."""
        return self.stages[-1].topic == LEARNER

    @property
    def is_chain(self) -> bool:
        """Whether there are several stages."""
        return len(self.stages) > 1


def refuse_chain(case: UseCase) -> None:
    """Raises DeclarationError for a case of several stages, to whoever folds one."""
    if (stages := len(case.plan.stages)) > 1:
        raise DeclarationError(
            f"{case.name} on {case.partitions} partitions is a chain of {stages} stages, and what was asked "
            "for folds one: partitions=1 without replicas works, where all of them are one"
        )


def plan_of(case: UseCase, partitions: int | None = None) -> Plan:
    """The plan of a case on a number of partitions (default: as declared)."""
    count = case.partitions if partitions is None else partitions
    if count == 1:
        return _one_partition(case)
    log_key = case.key or case.task.label.on
    windows = _windows_by_stage(case, log_key)
    way = _way_of_labels(case, log_key)
    is_one = list(windows) == [log_key] and way is None and _models_key(case) == log_key  # never Shared
    if is_one:
        computes = (*_intake(case), *_windows(log_key, windows[log_key]), *_answers(case))
        only = Stage(LOG, log_key, count, computes, tuple(case.features))
        return _planned(case, count, [only], 1)
    first = windows.pop(log_key)
    computes = (*_intake(case), *_windows(log_key, first))
    stages = [Stage(LOG, log_key, count, computes, (*_read_at_once(case), *first))]
    stages += [Stage(f"by-{key}", key, count, _windows(key, names), names) for key, names in windows.items()]
    if way is not None:
        stages = _with_way(stages, way, count)
    return _planned(case, count, [*stages, *_models_stages(case, count)], 2 if way is None else 3)


def _models_stages(case: UseCase, count: int) -> list[Stage]:
    """The stages of the models, behind those of the features: one stage, or replicas and their learner."""
    replicas = replicas_of(case)
    if not replicas:
        scope = _models_key(case)
        return [Stage(QUESTIONS, scope, 1 if scope is None else count, _answers(case), _computed(case))]
    answers = (*_named("computed", _computed(case)), "the pool as published last: answers")
    learns = (f"labels by {case.task.label.on}", "one pool of models: learns, drift, publishes the pool")
    return [
        Stage(QUESTIONS, "id", replicas, answers, _computed(case)),
        Stage(LEARNER, None, 1, learns, ()),
    ]


def replicas_of(case: UseCase) -> int:
    """How many replicas of the models answer; 0 if the pool that learns also answers."""
    return case.models.replicas if isinstance(case.models, Shared) else 0


def _planned(case: UseCase, count: int, stages: Sequence[Stage], label_hops: int) -> Plan:
    entries = {tag_of(kind): _entry(kind, case.record_keys) for kind in case.events}
    stops = {tag_of(kind): tuple(_stops(case, stages, kind)) for kind in case.events}
    return Plan(case.name, count, tuple(stages), entries, stops, label_hops)


def _one_partition(case: UseCase) -> Plan:
    names = [name for name, feature in case.features.items() if _window(feature) is not None]
    computes = (*_intake(case), *_named("windows", names))
    if replicas_of(case):
        log = Stage(LOG, case.key, 1, computes, (*_read_at_once(case), *names))
        return _planned(case, 1, [log, *_models_stages(case, 1)], 2)
    computes = (*computes, *_answers(case))
    return _planned(case, 1, [Stage(LOG, case.key, 1, computes, tuple(case.features))], 1)


def _windows_by_stage(case: UseCase, log_key: str) -> dict[str, tuple[str, ...]]:
    """The windows of each stage, by the stage's key, the log's first. A window may be in the stage of any of
    its key fields; the field that most of the remaining windows have is chosen first."""
    left = {name: window.by for name, feature in case.features.items() if (window := _window(feature))}
    found: dict[str, tuple[str, ...]] = {}
    key = log_key
    while True:
        within = [name for name, by in left.items() if key in by]
        found[key] = tuple(within)
        for name in within:
            del left[name]
        if not left:
            return found
        fields = [field for by in left.values() for field in by]
        key = max(dict.fromkeys(fields), key=fields.count)


def _window(feature: Feature) -> Window | None:
    window = feature.window if isinstance(feature, Elapsed) else feature
    return window if isinstance(window, Window) else None


def _models_key(case: UseCase) -> str | None:
    """The field whose values each have a pool; None if one pool answers everything."""
    if isinstance(case.models, Shared):
        return None
    return case.models.by or case.key


def _way_of_labels(case: UseCase, log_key: str) -> str | None:
    """The field by which labels find the partition of their request; None if labels have its key, or if there
    is only one partition."""
    label, scope = case.task.label, _models_key(case)
    if scope is None:
        return None
    kinds: list[type[Event]] = [label.event, *label.void]
    return None if all(scope in kind.__struct_fields__ for kind in kinds) else label.on


def _with_way(stages: list[Stage], key: str, count: int) -> list[Stage]:
    """The stages, with one by the label's key that stores where each request went."""
    leaves = f"leaves the way for labels by {key}"
    if all(stage.key != key for stage in stages):
        return [*stages, Stage(f"by-{key}", key, count, (leaves,), ())]
    return [
        replace(stage, computes=(*stage.computes, leaves)) if stage.key == key else stage for stage in stages
    ]


def _intake(case: UseCase) -> tuple[str, ...]:
    looked_up = [name for name, feature in case.features.items() if isinstance(feature, Lookup)]
    of_request = [name for name in _read_at_once(case) if name not in looked_up]
    return (
        "decodes, refuses repeats, tells the time",
        *_named("fields of the request", of_request),
        *_named("references", looked_up),
    )


def _answers(case: UseCase) -> tuple[str, ...]:
    scope = _models_key(case)
    models = "one pool of models" if scope is None else f"a pool of models for each {scope}"
    return (
        *_named("computed", _computed(case)),
        f"labels by {case.task.label.on}",
        f"{models}: answers, learns, drift",
    )


def _read_at_once(case: UseCase) -> tuple[str, ...]:
    """Features that need no window: fields of the request, functions of it, and lookups of references."""
    return tuple(
        name
        for name, feature in case.features.items()
        if _window(feature) is None and not isinstance(feature, OnDemand)
    )


def _computed(case: UseCase) -> tuple[str, ...]:
    """Features that are computed from others."""
    return tuple(name for name, feature in case.features.items() if isinstance(feature, OnDemand))


def _windows(key: str, names: Iterable[str]) -> tuple[str, ...]:
    return _named(f"windows by {key}", names)


def _named(what: str, names: Iterable[str]) -> tuple[str, ...]:
    listed = ", ".join(names)
    return (f"{what}: {listed}",) if listed else ()


def _entry(kind: type[Event], fields: Iterable[str]) -> str | None:
    """The field that decides an event's partition in the log: the first of `fields` that it has."""
    if issubclass(kind, Reference):
        return None
    return next((field for field in fields if field in kind.__struct_fields__), None)


def _stops(case: UseCase, stages: Sequence[Stage], kind: type[Event]) -> Iterator[int]:
    """The stages behind the log that events of a type visit: a request visits all, another event those whose
    windows it updates, and a label or void also the last one."""
    last, label = len(stages) - 1, case.task.label
    if issubclass(kind, Reference):
        return
    for number, stage in enumerate(stages[1:], 1):
        windows = [_window(case.features[name]) for name in stage.features]
        feeds = kind in [window.event for window in windows if window is not None]
        joins = number == last and kind in (label.event, *label.void)
        if kind is case.task.ask or feeds or joins:
            yield number
