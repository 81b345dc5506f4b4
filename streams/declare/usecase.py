"""A use case: one declaration from which topics, features, models and schemas are derived."""

from __future__ import annotations

import hashlib
import importlib
import sys
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from driftline.declaration_check import (
    ABOVE_0,
    AT_LEAST_0,
    ENDLESS,
    Bounds,
    MaybeSeconds,
    Seconds,
    check,
    check_argument,
    shown,
    suggestion,
)
from driftline.errors import DriftlineError, pass_interrupt
from driftline.features.declare.declaration import DAY, MINUTE, Feature, View, fields_computed_with, views
from driftline.features.declare.on_demand import OnDemandView, on_demand_views
from driftline.features.errors import FeatureDeclarationError
from driftline.features.quality.feature_schema import RefusingFeatures
from driftline.features.state.feature_state import FeatureState
from driftline.features.state.segment_store import IN_MEMORY, SegmentStore
from driftline.online_models.members.member import PerKey, Shared
from driftline.online_models.tasks.protocol import Kind, Task
from driftline.streams.code.provenance import is_ours
from driftline.streams.code.specification import LATER_FIELD, described
from driftline.streams.declare.commands import check_operators
from driftline.streams.declare.consistency import check_case, check_plan, check_views
from driftline.streams.declare.event_codec import EventCodec
from driftline.streams.declare.events import Event
from driftline.streams.declare.plan import Plan, plan_of
from driftline.streams.declare.retention import needed_for, seconds_of
from driftline.streams.declare.several_tasks import case_of_task, cases_of_tasks, settle_tasks
from driftline.streams.declare.topics import INPUT_LIMIT, MOST_PARTITIONS, Topics
from driftline.streams.errors import DeclarationError

if TYPE_CHECKING:

    class DeclaredTask:
        """A field that is read as a `Task`. Its setter accepts any kind of task, as mypy would otherwise take
        the event of the label for Any."""

        def __get__(self, instance: object | None, owner: type) -> Task: ...
        def __set__(self, instance: object, value: Kind) -> None: ...

    class DeclaredModels:
        """A field that is read as the models of one task, and may be given for each of several."""

        def __get__(self, instance: object | None, owner: type) -> PerKey | Shared: ...
        def __set__(
            self, instance: object, value: PerKey | Shared | Mapping[str, PerKey | Shared]
        ) -> None: ...

else:
    DeclaredTask, DeclaredModels = Task, PerKey | Shared


@dataclass(frozen=True, slots=True)
class UseCase:
    """The declaration of a case: what to predict, from which events, with which features and models.

    Durations are in seconds or a timedelta. docs/declare.md explains each part with examples.

    Parameters
    ----------
    name
        The name of the case, with which the names of its topics begin.
    events
        The classes of all events in the log.
    features
        The features by name, made by `driftline.field`, `mean` and the other functions.
    key
        The field that decides an event's partition. It may be left out for one partition.
    task, tasks
        The task: `Binary`, `Multiclass`, `Regression` or `Anomaly`. Or, as `tasks`, several tasks on the same
        requests; `of` gives the case of one.
    models
        `PerKey(...)` or `Shared(...)`; for several tasks, a dict of them by the task's name.
    partitions
        The number of partitions of the log, at most 10,000, which cannot be changed later. If windows, labels
        or models need data of several partitions, the case is a chain of stages (`driftline plan` shows
        them).
    slices
        Fields of the request. No promoted member may be worse on one of their values.
    source
        `module:function` that yields the events of a history, for `driftline produce` and `simulate`.
    clock
        "wall" for a live case, whose events come as they happen: the broker's append time decides which
        events are from the future, and workers send clock events to idle partitions. "event" for a case fed
        from history, where event times are compared with each other.
    lateness
        How far an event may be behind the newest one (default: 0; a minute for a live case).
    clock_skew
        How far clocks may differ without being wrong, in a live case.
    max_jump
        How far ahead of all others an event is refused, as long as no other event confirms its time.
    dedup_horizon
        How long event ids are remembered, so that repeats are dropped.
    max_event_bytes
        The largest size of an event's JSON, at most a mebibyte: topics take no longer record.
    description
        A text for people.
    operators
        The Ed25519 public keys, in hex, of the operators whose commands are obeyed, by name.
    refusals
        `Schema.read(path).refusals`: requests with values that this frozen schema refuses are dead letters.
    retention
        How long topics are kept; infinite for ever. Default: 30 days, or more if labels or windows need it.
        No prediction depends on it, so it may be changed at any time.
    log_of
        Set by `of`: the case whose log this one reads.

    Raises DeclarationError if parts do not fit together; the message says what was expected.

    >>> import driftline as dl
    >>> class Query(dl.Event, tag="query"):
    ...     shop: str
    ...     payment: str
    ...     amount: float
    >>> class Chargeback(dl.Event, tag="chargeback"):
    ...     shop: str
    ...     payment: str
    >>> label = dl.Label(Chargeback, on="payment", value=lambda _: True, wait=60 * dl.DAY, at_expiry=False)
    >>> payments = UseCase(
    ...     "payments", key="shop", events=[Query, Chargeback],
    ...     features={"amount": dl.field("amount"), "asked_1h": dl.count(Query, by="shop", over=dl.HOUR)},
    ...     task=dl.Binary("fraud", ask=Query, label=label),
    ...     models=dl.PerKey(champion=dl.Member("logistic", object)),
    ... )
    >>> payments.topics().predictions
    'payments.predictions'
    """

    name: str
    events: Sequence[type[Event]]
    features: Mapping[str, Feature]
    key: str | None = field(default=None, kw_only=True)
    task: DeclaredTask = field(default=cast(Any, None))
    models: DeclaredModels = field(default=cast(Any, None))
    partitions: Annotated[int, Bounds(1, MOST_PARTITIONS)] = 1
    slices: Sequence[str] = ()
    source: str | None = None
    lateness: Annotated[MaybeSeconds, AT_LEAST_0] = field(default=cast(Any, None))
    max_jump: Annotated[Seconds, ABOVE_0] = field(default=cast(Any, 366 * DAY))
    dedup_horizon: Annotated[Seconds, AT_LEAST_0] = field(default=cast(Any, DAY))
    clock: Literal["event", "wall"] = "event"
    max_event_bytes: Annotated[int, Bounds(1, INPUT_LIMIT)] = 65_536
    description: str = field(default="", kw_only=True)
    operators: Mapping[str, str] = field(default_factory=dict, kw_only=True)
    refusals: RefusingFeatures | None = field(default=None, kw_only=True)
    retention: Annotated[MaybeSeconds, ABOVE_0, ENDLESS] = field(default=cast(Any, None), kw_only=True)
    clock_skew: Annotated[Seconds, AT_LEAST_0] = field(default=cast(Any, MINUTE), kw_only=True)
    tasks: Sequence[Kind] = field(default=(), kw_only=True, metadata=LATER_FIELD)
    log_of: str = field(default="", kw_only=True, metadata=LATER_FIELD)

    def __post_init__(self) -> None:
        if self.tasks:
            settle_tasks(self, self.task, self.models)
        if self.tasks:
            self.each()
            return
        if isinstance(self.task, type) or not hasattr(self.task, "label"):
            raise DeclarationError(
                f"UseCase({self.name!r}): task: expected Binary(...), Multiclass(...), Regression(...) or "
                f"Anomaly(...), not {shown(self.task)}"
            )
        check(self, DeclarationError, self.name)
        check_case(self)
        check_operators(self.operators)
        try:
            views = self.views()
            self.feature_state(views)
            on_demand = self.on_demand_views()
        except FeatureDeclarationError as error:
            raise DeclarationError(f"{self.name}: {error}") from error
        check_views(self.name, views, on_demand)
        check_plan(self, self.plan)
        self.codec()
        self._retention()

    def _retention(self) -> float:
        """How long the topics are kept, in seconds."""
        needed = needed_for(self.task.label, self.dedup_horizon, self.allowed_lateness, self.views())
        return seconds_of(self.name, self.retention, needed)

    def each(self) -> tuple[UseCase, ...]:
        """The case of each task; for a single task, the case itself."""
        return cases_of_tasks(self) if self.tasks else (self,)

    def of(self, task: str) -> UseCase:
        """The case of one of several tasks, by the task's name. Raises DeclarationError for an unknown
        name."""
        check_argument(task, str, f"{self.name}.of: the name of a task", DeclarationError)
        return case_of_task(self, task)

    @property
    def writing(self) -> UseCase:
        """The case that is used to write events to the log: the first of several tasks, as all write
        alike."""
        return self.each()[0]

    @property
    def addressee(self) -> str:
        """The `task` of commands for this case; empty if commands in its log are for it anyway."""
        return self.task.name if self.log_of else ""

    @property
    def is_live(self) -> bool:
        """Whether events come as they happen, so that their append time is the current time."""
        return self.clock == "wall"

    @property
    def allowed_lateness(self) -> float:
        """Seconds that an event may be behind the newest one."""
        if self.lateness is None:
            return MINUTE if self.is_live else 0.0
        return self.lateness

    def codec(self) -> EventCodec:
        """Encodes and decodes this case's events."""
        computed = fields_computed_with(self.features, self.task.ask)
        checked = None
        if self.partitions == 1:  # nothing depends on the record key of an event without the case's key
            checked = [kind for kind in self.events if self.key in kind.__struct_fields__]
        return EventCodec(self.events, self.key, self.max_event_bytes, computed, self.record_keys, checked)

    @property
    def plan(self) -> Plan:
        """The stages that the declared partitions need."""
        return plan_of(self)

    @property
    def record_keys(self) -> tuple[str, ...]:
        """The fields that can be an event's record key. The first one that the event has is its key."""
        names = (self.key, self.task.label.on, *(view.keys[0] for view in self.views()))
        return tuple(dict.fromkeys(name for name in names if name is not None))

    @property
    def key_fields(self) -> tuple[str, ...]:
        """The fields of a request that its prediction and outcomes also have, `key` first."""
        names = (self.key, self.task.label.on, self.models.by, *self.slices)
        return tuple(dict.fromkeys(name for name in names if name is not None))

    def views(self) -> list[View]:
        """The online feature views, one for each key."""
        return views(self.name, self.features, self.clock, self.allowed_lateness)

    def on_demand_views(self) -> list[OnDemandView]:
        """The views of features that are computed from others when they are read."""
        return on_demand_views(self.name, self.features, self.views(), self.task.ask)

    @property
    def models_with_notes(self) -> PerKey | Shared:
        """The models, with monitoring that leaves out the features declared with `monitor=False`."""
        monitoring = self.models.monitoring
        noted = frozenset(name for name, feature in self.features.items() if not feature.note.monitor)
        if monitoring is None or noted <= monitoring.unwatched:
            return self.models
        return replace(self.models, monitoring=replace(monitoring, unwatched=monitoring.unwatched | noted))

    def feature_state(self, views: Sequence[View] = (), store: SegmentStore = IN_MEMORY) -> FeatureState:
        """The empty feature state of one partition. It maintains the online rows of the `views`, and keeps
        windows that leave the memory in the `store`."""
        return FeatureState(self.features, self.task.ask, views, store)

    def topics(self, namespace: str = "") -> Topics:
        """Names and settings of the case's topics."""
        behind = tuple((stage.topic, stage.partitions) for stage in self.plan.stages[1:])
        return Topics(self.name, self.partitions, namespace, self._retention(), behind, self.log_of)

    @property
    def spec_hash(self) -> str:
        """sha256 over the declaration: its functions with everything they use, and its estimators'
        parameters.

        Raises Undescribable for a part whose changes could not be detected.
        """
        # no prediction depends on the retention
        deciding = replace(self.of(self.task.name), retention=None)
        return hashlib.sha256(described(deciding, self.packages).encode()).hexdigest()

    @property
    def packages(self) -> frozenset[str]:
        """The top-level packages of the declaration's own code, wherever they are installed."""
        return frozenset(event.__module__.partition(".")[0] for event in self.events) - {"driftline"}


def load_object(path: str) -> Any:
    """The object at `module:attribute`. The current folder is searched too.

    A file below the current folder may be given instead of a module: ./shop/cases.py:orders is
    shop.cases:orders. Raises DeclarationError if it cannot be imported.
    """
    check_argument(path, str, "the path of a case", DeclarationError)
    here = Path.cwd()
    name, attribute = module_name(path), path.rpartition(":")[2]
    if not (name and attribute):
        raise DeclarationError(
            f"{path!r} is not of the form module:attribute, such as driftline.examples.flights:flights"
        )
    if str(here) not in sys.path:
        sys.path.insert(0, str(here))
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise DeclarationError(f"{path!r}: cannot import {error.name!r} (looked in {here} too)") from error
    except BaseException as error:
        pass_interrupt(error)
        raise DeclarationError(f"{path!r}: {_place_in(error, here)}{_error_text(error)}") from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        hint = suggestion(attribute, vars(module))
        raise DeclarationError(f"{path!r}: {name} has no attribute {attribute!r}{hint}") from None


def module_name(path: str) -> str:
    """The name of the module in `module:attribute` or in `./shop/cases.py:orders`.

    Raises DeclarationError for a file that is not below the current folder.
    """
    name = path.rpartition(":")[0]
    if "/" not in name and not name.endswith(".py"):
        return name
    here = Path.cwd().resolve()
    file = (here / name).resolve()
    if not file.is_relative_to(here):
        raise DeclarationError(f"{name!r} is not below {here}: run driftline in the folder that it is in")
    return ".".join(file.relative_to(here).with_suffix("").parts)


def _place_in(error: BaseException, here: Path) -> str:
    """The user's file and line where an error arose, as `shop.py, line 7: `; empty if unknown."""
    if isinstance(error, SyntaxError):
        return ""  # the error itself names them
    frames = traceback.extract_tb(error.__traceback__)
    own = [
        frame for frame in frames if Path(frame.filename).is_relative_to(here) and not _is_own(frame.filename)
    ]
    if not own:
        return ""
    last = own[-1]
    return f"{Path(last.filename).relative_to(here)}, line {last.lineno}: "


def _is_own(file: str) -> bool:
    """Whether a file belongs to driftline, or to the packages of an environment."""
    return is_ours(Path(file)) or "site-packages" in file


def _error_text(error: BaseException) -> str:
    return str(error) if isinstance(error, DriftlineError) else f"{type(error).__name__}: {error}"


def load_case(path: str) -> UseCase:
    """The use case at `module:attribute`, or the case of one of its tasks at `module:attribute@task`.

    Files are accepted too: ./shop/cases.py:orders. Raises DeclarationError if there is no such case.

    >>> load_case("driftline.examples.flights:flights").name
    'flights'
    """
    check_argument(path, str, "the path of a case", DeclarationError)
    module, colon, name = path.rpartition(":")
    attribute, at, task = name.partition("@")
    case = load_object(f"{module}{colon}{attribute}")
    if not isinstance(case, UseCase):
        raise DeclarationError(f"{path!r} is a {type(case).__name__}, not a UseCase")
    return case.of(task) if at else case
