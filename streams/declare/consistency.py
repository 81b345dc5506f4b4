"""Checks that the parts of a use case fit together: names, events, keys, features."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from driftline.declaration_check import suggestion
from driftline.features.declare.declaration import Elapsed, Feature, Lookup, View, Window, stored_name
from driftline.features.declare.keys import may_be_none, never_equal, no_one_text, not_a_key
from driftline.features.declare.on_demand import OnDemandView
from driftline.online_models.members.member import Shared
from driftline.streams.declare.events import Event, Reference, check_event_class
from driftline.streams.declare.plan import Plan
from driftline.streams.declare.topics import wrong_name
from driftline.streams.errors import DeclarationError

if TYPE_CHECKING:
    from driftline.streams.declare.usecase import UseCase

TRAINING_COLUMNS = frozenset(
    ("prediction_id", "partition", "offset", "at", "event_timestamp", "created_timestamp", "label",
     "label_status", "label_revision")
)  # fmt: skip
"""Column names that training sets or Feast use themselves."""
LONGEST_VIEW = 255
"""The longest name in Feast's SQL registry, in characters."""


def check_case(case: UseCase) -> None:
    """Raise DeclarationError for the first part that does not fit. The message says what was expected."""
    checks = (_name, _source, _events, _task, _partition_key, _models, _keys, _slices, _features)
    for one in checks:
        one(case)


def _fail(case: UseCase, reason: str) -> DeclarationError:
    return DeclarationError(f"{case.name}: {reason}")


def _name(case: UseCase) -> None:
    wrong = wrong_name(case.name)
    if wrong is not None:
        raise DeclarationError(f"UseCase({case.name[:60]!r}): name: {wrong}")
    before, dot, after = case.name.rpartition(".")
    if dot:
        raise DeclarationError(
            f"UseCase({case.name!r}): name: expected no '.', which separates namespace and case: name it "
            f"{(before + '-' + after).replace('.', '-')!r}; or {after!r} in the namespace {before!r}, whose "
            "topics have the same names"
        )
    wrong = wrong_name(case.task.name)
    if wrong is not None:
        raise _fail(case, f"the task's name: {wrong}")


def _source(case: UseCase) -> None:
    """Check the source: a module and a function in it. The function may be defined after the case."""
    if case.source is None:
        return
    module, _, function = case.source.partition(":")
    if not (function.isidentifier() and all(part.isidentifier() for part in module.split("."))):
        raise _fail(
            case, f"source: expected module:function, such as shop.source:events, not {case.source!r}"
        )
    try:
        importable = module == "__main__" or find_spec(module) is not None
    except ModuleNotFoundError:
        importable = False
    except ValueError:  # the module is being imported right now
        importable = True
    if not importable:
        raise _fail(case, f"source: there is no module {module!r}")


def _events(case: UseCase) -> None:
    for event in case.events:
        if case.events.count(event) > 1:
            raise _fail(case, f"events: {event.__name__} is listed twice")
        try:
            check_event_class(event)
        except DeclarationError as error:
            raise _fail(case, str(error)) from None
    if not any(not issubclass(event, Reference) for event in case.events):
        raise _fail(case, "events: expected at least one event type")


def _need(case: UseCase, what: str, event: Any) -> None:
    """Check that the event is one of the case's."""
    if event not in case.events:
        known = [one.__name__ for one in case.events]
        name = event.__name__
        hint = suggestion(name, known) or f": add {name} to them" * (isinstance(event, type))
        raise _fail(case, f"{what} uses {name}, which is not among events{hint}")


def _field(case: UseCase, what: str, event: type, name: str) -> None:
    fields = getattr(event, "__struct_fields__", ())
    if name not in fields:
        raise _fail(case, f"{what} {name!r}, which {event.__name__} lacks{suggestion(name, fields)}")


def _task(case: UseCase) -> None:
    ask, label = case.task.ask, case.task.label
    if ask in label.void:
        raise _fail(case, f"void: {ask.__name__} is the request, so each request would void itself")
    for event in (ask, label.event, *label.void):
        _need(case, "the task", event)
        if issubclass(event, Reference):
            raise _fail(case, f"{event.__name__} is a Reference: requests, labels and voids must be an Event")
        _field(case, "labels join on", event, label.on)


def _partition_key(case: UseCase) -> None:
    """Check the partition key: several partitions need one, and requests must have it as a field."""
    key, ask = case.key, case.task.ask
    if key is None:
        if case.partitions > 1:
            raise _fail(
                case,
                f"{case.partitions} partitions need key=, the field that decides an event's partition; only "
                "partitions=1 works without",
            )
        return
    for event in [event for event in case.events if not issubclass(event, Reference)]:
        fields = event.__struct_fields__
        if key not in fields and event is ask:
            hint = suggestion(key, fields)
            raise _fail(case, f"the partition key is {key!r}, which {event.__name__} lacks{hint}")
        if key not in fields:
            continue
        reason = not_a_key(event, key) or no_one_text(event, key) or may_be_none(event, key)
        if reason is not None:
            raise _fail(case, f"the partition key: {reason}")


def _models(case: UseCase) -> None:
    """Check that requests have the field that decides the pool."""
    models, key = case.models, case.key
    if isinstance(models, Shared):
        if models.replicas and not case.task.is_supervised:
            raise _fail(
                case,
                "anomaly scores are ranked among all scores, so one pool must give them all: leave out "
                "replicas",
            )
        return
    by = models.by
    if by is None:
        if key is None:
            raise _fail(
                case,
                "PerKey makes a pool for each value of the partition key, and the case has no key: name a "
                'field of the request, as PerKey(..., by="country"), or use Shared',
            )
        return
    ask = case.task.ask
    _field(case, "models are by", ask, by)
    if (reason := not_a_key(ask, by) or no_one_text(ask, by) or may_be_none(ask, by)) is not None:
        raise _fail(case, f"models by {by!r}: {reason}")


def _keys(case: UseCase) -> None:
    ask, label = case.task.ask, case.task.label
    looked_up: list[tuple[Any, str]] = [(event, label.on) for event in (ask, label.event, *label.void)]
    looked_up += [(ask, name) for name in case.slices]
    for event, name in looked_up:
        if name in event.__struct_fields__ and (reason := not_a_key(event, name)) is not None:
            raise _fail(case, reason)
    for event in (label.event, *label.void):
        if (reason := never_equal(ask, event, label.on)) is not None:
            raise _fail(case, f"labels join on {label.on!r}: {reason}")


def _slices(case: UseCase) -> None:
    ask = case.task.ask
    for name in case.slices:
        fields = getattr(ask, "__struct_fields__", ())
        if name not in fields:
            raise _fail(case, f"slice {name!r} is not a field of {ask.__name__}{suggestion(name, fields)}")


def _features(case: UseCase) -> None:
    for name in case.features:
        if not name.isidentifier() or "__" in name:
            raise _fail(
                case,
                f"feature {name!r}: a name has letters, digits and single _, and does not begin with a digit",
            )
    keys = {f"key_{name}" for name in case.key_fields}
    for name in case.features:
        if name in TRAINING_COLUMNS | keys:
            raise _fail(case, f"feature {name!r}: training sets have a column of that name: choose another")
    for name, feature in case.features.items():
        if isinstance(feature, Elapsed) and stored_name(name) in case.features:
            taken = stored_name(name)
            raise _fail(
                case, f"feature {taken!r}: the store uses that name for the time of {name!r}: choose another"
            )
    for name, event in _used(case.features):
        _need(case, f"feature {name!r}", event)
        if isinstance(case.features[name], Lookup) and not issubclass(event, Reference):
            raise _fail(
                case,
                f"feature {name!r} looks up {event.__name__}, which is no Reference: declare "
                f"class {event.__name__}(Reference, ...), or use latest(...)",
            )
    for name in () if case.refusals is None else case.refusals.features:
        if name not in case.features:
            raise _fail(case, f"refusals name {name!r}, which is not a feature")


def _used(features: Mapping[str, Feature]) -> Iterable[tuple[str, type[Event]]]:
    """(feature, event type) for each feature that is computed from other events than the request."""
    for name, feature in features.items():
        if isinstance(feature, Elapsed):
            yield name, feature.window.event
        elif isinstance(feature, (Window, Lookup)):
            yield name, feature.event


def check_views(case: str, views: Sequence[View], on_demand: Sequence[OnDemandView]) -> None:
    """Raise DeclarationError if the online store would have two columns or two views of one name, or if a
    view's name is too long for Feast's registry."""
    names = [*(view.name for view in views), *(view.name for view in on_demand)]
    for name, times in Counter(names).items():
        if times > 1:
            raise DeclarationError(
                f"{case}: {times} views would have the name {name!r}, which joins the names of the fields "
                "that their windows are by: rename a field"
            )
    for view in views:
        if len(view.name) > LONGEST_VIEW:
            raise DeclarationError(
                f"{case}: the view of the windows by {', '.join(view.keys)} has a name of {len(view.name)} "
                f"characters, {view.name[:60]!r}...; Feast's registry takes {LONGEST_VIEW}: shorten the names"
            )
        for name in view.features:
            if name in view.keys:
                raise DeclarationError(
                    f"{case}: feature {name!r} has the name of a key of its window: choose another name"
                )


def check_plan(case: UseCase, plan: Plan) -> None:
    """Raise DeclarationError if several partitions do not work for the case: every event needs a partition in
    the log and in each stage that it visits."""
    if plan.partitions == 1:
        return
    for stage in plan.stages:
        if (wrong := wrong_name(stage.topic)) is not None:
            raise _fail(case, f"the topic of the windows by {stage.key}: {wrong}")
    for kind in case.events:
        _check_way(case, plan, kind)


def _check_way(case: UseCase, plan: Plan, kind: type[Event]) -> None:
    tag = str(kind.__struct_config__.tag)
    entry, stops = plan.entries[tag], plan.stops[tag]
    if entry is None and not issubclass(kind, Reference):
        raise _fail(
            case,
            f"{kind.__name__} has none of the fields {', '.join(case.record_keys)}, so it has no place among "
            f"{plan.partitions} partitions: add one of the fields, or use partitions=1",
        )
    scope = plan.stages[-1].key
    if scope is not None and scope not in kind.__struct_fields__ and len(plan.stages) - 1 in stops:
        raise _fail(
            case,
            f"{kind.__name__} lacks {scope!r}, which decides its pool of models, and several partitions "
            "cannot look it up: add the field, or use partitions=1 or one pool for all (Shared)",
        )
    keys = [entry, *(plan.stages[stop].key for stop in stops)]
    for key in dict.fromkeys(key for key in keys if key is not None):
        reason = not_a_key(kind, key) or no_one_text(kind, key) or may_be_none(kind, key)
        if reason is not None:
            raise _fail(case, f"the key of a stage: {reason}")
