"""Online machine learning on event streams: Kafka in, Feast features, River models, predictions out.

The public names, imported when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from driftline.errors import DeclarationError, DriftlineError
    from features.client import FeatureClient, FeatureRow, FeatureValue
    from features.declaration import (
        DAY,
        HOUR,
        MINUTE,
        SECOND,
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
    from features.errors import FeatureDeclarationError, FeaturesError, FeatureValueError
    from features.expectation import Schema, SchemaError
    from online_models.combination import Combination
    from online_models.drift.monitoring import Monitoring
    from online_models.errors import ModelDeclarationError, ModelsError, NotFinite
    from online_models.failures import Tolerance
    from online_models.member import Member, PerKey, Shared
    from online_models.promotion import Promotion
    from online_models.reactions import Background, Boosted, Recurring, Reset
    from online_models.task import Anomaly, Binary, Decision, Label, LabelWarning, Multiclass, Regression
    from streams.bridge import Bridge, Enrichment, ForeignRecord
    from streams.commands import new_command
    from streams.errors import (
        FoldFault,
        NoBroker,
        NoCanonicalForm,
        OtherTask,
        Refused,
        StreamsError,
        Unauthentic,
        Undescribable,
        UnusableKey,
    )
    from streams.events import Clock, Command, Event, Reference
    from streams.sdk import EventProducer, PredictionConsumer, Undelivered
    from streams.usecase import UseCase, load_case

_HOMES = {
    "driftline.errors": ("DeclarationError", "DriftlineError"),
    "features.client": ("FeatureClient", "FeatureRow", "FeatureValue"),
    "features.declaration": (
        "DAY", "HOUR", "MINUTE", "SECOND", "count", "decayed", "derive", "difference", "distinct", "field",
        "first", "lag", "last", "latest", "lookup", "max", "mean", "min", "on_demand", "rate", "ratio",
        "since", "std", "sum",
    ),
    "features.errors": ("FeatureDeclarationError", "FeatureValueError", "FeaturesError"),
    "features.expectation": ("Schema", "SchemaError"),
    "online_models.combination": ("Combination",),
    "online_models.drift.monitoring": ("Monitoring",),
    "online_models.errors": ("ModelDeclarationError", "ModelsError", "NotFinite"),
    "online_models.failures": ("Tolerance",),
    "online_models.member": ("Member", "PerKey", "Shared"),
    "online_models.promotion": ("Promotion",),
    "online_models.reactions": ("Background", "Boosted", "Recurring", "Reset"),
    "online_models.task": (
        "Anomaly", "Binary", "Decision", "Label", "LabelWarning", "Multiclass", "Regression",
    ),
    "streams.bridge": ("Bridge", "Enrichment", "ForeignRecord"),
    "streams.commands": ("new_command",),
    "streams.errors": (
        "FoldFault", "NoBroker", "NoCanonicalForm", "OtherTask", "Refused", "StreamsError", "Unauthentic",
        "Undescribable", "UnusableKey",
    ),
    "streams.events": ("Clock", "Command", "Event", "Reference"),
    "streams.sdk": ("EventProducer", "PredictionConsumer", "Undelivered"),
    "streams.usecase": ("UseCase", "load_case"),
}  # fmt: skip
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022 - the TYPE_CHECKING imports above, in their order
    "FeatureClient", "FeatureRow", "FeatureValue", "DAY", "HOUR", "MINUTE", "SECOND", "count", "decayed",
    "derive", "difference", "distinct", "field", "first", "lag", "last", "latest", "lookup", "max",
    "mean", "min", "on_demand", "rate", "ratio", "since", "std", "sum", "Schema", "Combination",
    "Monitoring", "Tolerance", "Member", "PerKey", "Shared", "Promotion", "Background", "Boosted",
    "Recurring", "Reset", "Anomaly", "Binary", "Decision", "Label", "Multiclass", "Regression", "Bridge",
    "Enrichment", "ForeignRecord", "new_command", "Clock", "Command", "Event", "Reference",
    "EventProducer", "PredictionConsumer", "Undelivered", "UseCase", "load_case",
    "DriftlineError", "DeclarationError", "FeaturesError", "FeatureDeclarationError", "FeatureValueError",
    "SchemaError", "ModelsError", "ModelDeclarationError", "NotFinite", "LabelWarning", "StreamsError",
    "FoldFault", "NoBroker", "NoCanonicalForm", "OtherTask", "Refused", "Unauthentic", "Undescribable",
    "UnusableKey",
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
