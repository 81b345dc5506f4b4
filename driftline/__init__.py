"""Online machine learning on event streams: Kafka in, Feast features, River models, predictions out.

The public names, imported when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from driftline.errors import DeclarationError, DriftlineError
    from driftline.features.declare.constructors import (
        count,
        decayed,
        derive,
        difference,
        distinct,
        field,
        first,
        lag,
        last,
        latest,
        lookup,
        max,
        mean,
        min,
        on_demand,
        rate,
        ratio,
        since,
        std,
        sum,
    )
    from driftline.features.declare.declaration import DAY, HOUR, MINUTE, SECOND, WEEK
    from driftline.features.errors import (
        FeatureDeclarationError,
        FeaturesError,
        FeatureValueError,
        StoreUnreadable,
    )
    from driftline.features.online.client import FeatureClient, FeatureRow, FeatureValue
    from driftline.features.quality.feature_schema import Schema, SchemaError
    from driftline.online_models.combine.combination import Combination
    from driftline.online_models.drift.monitoring import Monitoring
    from driftline.online_models.errors import ModelDeclarationError, ModelsError, NotFinite
    from driftline.online_models.members.failures import Tolerance
    from driftline.online_models.members.member import Member, PerKey, Shared
    from driftline.online_models.members.reactions import Background, Boosted, Recurring, Reset
    from driftline.online_models.promote.promotion import Promotion
    from driftline.online_models.tasks.task import (
        Anomaly,
        Binary,
        Decision,
        Label,
        LabelWarning,
        Multiclass,
        Regression,
    )
    from driftline.streams.clients.bridge import Bridge, Enrichment, ForeignRecord
    from driftline.streams.clients.consumer import PredictionConsumer
    from driftline.streams.clients.producer import EventProducer, Undelivered
    from driftline.streams.declare.commands import new_command
    from driftline.streams.declare.events import Clock, Command, Event, Reference
    from driftline.streams.declare.usecase import UseCase, load_case
    from driftline.streams.errors import (
        FoldFault,
        NoBroker,
        NoCanonicalForm,
        NotLetIn,
        OtherTask,
        Refused,
        StreamsError,
        Unauthentic,
        Undescribable,
        UnusableKey,
    )

_HOMES = {
    "driftline.errors": ("DeclarationError", "DriftlineError"),
    "driftline.features.online.client": ("FeatureClient", "FeatureRow", "FeatureValue"),
    "driftline.features.declare.declaration": ("DAY", "HOUR", "MINUTE", "SECOND", "WEEK"),
    "driftline.features.declare.constructors": (
        "count", "decayed", "derive", "difference", "distinct", "field", "first", "lag", "last", "latest",
        "lookup", "max", "mean", "min", "on_demand", "rate", "ratio", "since", "std", "sum",
    ),
    "driftline.features.errors": (
        "FeatureDeclarationError", "FeatureValueError", "FeaturesError", "StoreUnreadable",
    ),
    "driftline.features.quality.feature_schema": ("Schema", "SchemaError"),
    "driftline.online_models.combine.combination": ("Combination",),
    "driftline.online_models.drift.monitoring": ("Monitoring",),
    "driftline.online_models.errors": ("ModelDeclarationError", "ModelsError", "NotFinite"),
    "driftline.online_models.members.failures": ("Tolerance",),
    "driftline.online_models.members.member": ("Member", "PerKey", "Shared"),
    "driftline.online_models.promote.promotion": ("Promotion",),
    "driftline.online_models.members.reactions": ("Background", "Boosted", "Recurring", "Reset"),
    "driftline.online_models.tasks.task": (
        "Anomaly", "Binary", "Decision", "Label", "LabelWarning", "Multiclass", "Regression",
    ),
    "driftline.streams.clients.bridge": ("Bridge", "Enrichment", "ForeignRecord"),
    "driftline.streams.declare.commands": ("new_command",),
    "driftline.streams.errors": (
        "FoldFault", "NoBroker", "NoCanonicalForm", "NotLetIn", "OtherTask", "Refused", "StreamsError",
        "Unauthentic",
        "Undescribable", "UnusableKey",
    ),
    "driftline.streams.declare.events": ("Clock", "Command", "Event", "Reference"),
    "driftline.streams.clients.consumer": ("PredictionConsumer",),
    "driftline.streams.clients.producer": ("EventProducer", "Undelivered"),
    "driftline.streams.declare.usecase": ("UseCase", "load_case"),
}  # fmt: skip
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022 - the TYPE_CHECKING imports above, in their order
    "FeatureClient", "FeatureRow", "FeatureValue", "DAY", "HOUR", "MINUTE", "SECOND", "WEEK", "count",
    "decayed", "derive", "difference", "distinct", "field", "first", "lag", "last", "latest", "lookup", "max",
    "mean", "min", "on_demand", "rate", "ratio", "since", "std", "sum", "Schema", "Combination",
    "Monitoring", "Tolerance", "Member", "PerKey", "Shared", "Promotion", "Background", "Boosted",
    "Recurring", "Reset", "Anomaly", "Binary", "Decision", "Label", "Multiclass", "Regression", "Bridge",
    "Enrichment", "ForeignRecord", "new_command", "Clock", "Command", "Event", "Reference",
    "EventProducer", "PredictionConsumer", "Undelivered", "UseCase", "load_case",
    "DriftlineError", "DeclarationError", "FeaturesError", "FeatureDeclarationError", "FeatureValueError",
    "StoreUnreadable", "SchemaError", "ModelsError", "ModelDeclarationError", "NotFinite", "LabelWarning",
    "StreamsError", "FoldFault", "NoBroker", "NoCanonicalForm", "NotLetIn", "OtherTask", "Refused",
    "Unauthentic", "Undescribable", "UnusableKey",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'driftline' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(_HOME_OF)
