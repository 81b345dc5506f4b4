"""What a feature's values are expected to be: one frozen, readable file a case, inferred once, then edited.

    {"case": "flights", "window": 86400.0, "reference": {...}, "features": {"wind": {"type": "number", ...}}}

It says what is counted (bins, texts counted apart), what is an anomaly, and how grave each kind is. It knows
neither how values are counted (`driftline.features.quality.statistics`) nor where they come from.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec

from driftline.features.errors import FeaturesError

Type = Literal["number", "whole", "text", "boolean"]
AnomalyKind = Literal["presence", "type", "domain", "range", "cardinality", "drift", "skew"]
Severity = Literal["refuse", "alert", "ignore"]
"""What becomes of an anomaly: the request is a dead letter (where the case declares the schema's refusals),
the anomaly is published, or neither."""
OF_REQUESTS: tuple[AnomalyKind, ...] = ("presence", "type", "domain", "range")
"""What a single request can show; the other kinds show in windows alone."""
_TYPES: dict[type, Type] = {float: "number", int: "whole", str: "text", bool: "boolean"}


class SchemaError(FeaturesError):
    """A schema of features that cannot be read or does not fit; the message says what to do.

    >>> from pathlib import Path
    >>> from driftline import Schema
    >>> Schema.read(Path("absent.json"))
    Traceback (most recent call last):
        ...
    driftline.features.quality.feature_schema.SchemaError: absent.json is not there: ...
    """


class Bins(msgspec.Struct, frozen=True):
    """`count` bins of width `step` from `low` on; values beyond them are counted too, on either side."""

    low: float
    step: float
    count: int

    def __post_init__(self) -> None:
        if not (self.step > 0 and self.count >= 1):
            raise ValueError(f"bins need a step > 0 and a count >= 1, not {self.step!r} and {self.count!r}")


class FeatureSchema(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is expected of one feature.

    `missing` is the largest share of a window's requests that may lack it. Numbers lie in [`low`, `high`]
    and are counted in `bins`. Texts are of the `domain`, where there is one, and at most `distinct` of them
    come in a window; those of the domain are counted apart, else those in `values`. `severity` is by kind of
    anomaly, "alert" where it says nothing.
    """

    type: Type
    missing: float
    low: float | None = None
    high: float | None = None
    bins: Bins | None = None
    domain: tuple[str, ...] | None = None
    distinct: int | None = None
    values: tuple[str, ...] = ()
    severity: Mapping[AnomalyKind, Severity] = {}

    def __post_init__(self) -> None:
        if not 0.0 <= self.missing <= 1.0:
            raise ValueError(f"`missing` is a share from 0 to 1, not {self.missing!r}")
        if self.is_number != (self.bins is not None):
            raise ValueError(f"`bins` are for numbers, and needed there: the type is {self.type!r}")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"`low` {self.low!r} is above `high` {self.high!r}")
        for kind, severity in self.severity.items():
            if severity == "refuse" and kind not in OF_REQUESTS:
                raise ValueError(f"`severity` of {kind} cannot be refuse: no single request shows it")

    @property
    def is_number(self) -> bool:
        """Whether the values are numbers, whole or not."""
        return self.type in ("number", "whole")

    @property
    def counted_apart(self) -> tuple[str, ...]:
        """The texts that have a count of their own."""
        if self.type == "boolean":
            return ("false", "true")
        return self.values if self.domain is None else self.domain

    def severity_of(self, kind: AnomalyKind) -> Severity:
        """How grave an anomaly of this kind is."""
        return self.severity.get(kind, "alert")

    def fits(self, kind: Type) -> bool:
        """Whether a value of this type is of the expected one: a whole number is a number."""
        return kind == self.type or (kind == "whole" and self.type == "number")

    def anomaly_of(self, value: Any) -> tuple[AnomalyKind, str] | None:
        """What is wrong with one value that is not missing: the kind of anomaly, and what was expected."""
        kind = type_of(value)
        if not self.fits(kind):
            return "type", f"expected {self.type}, found {kind} {value!r}"
        if self.is_number:
            if (self.low is not None and value < self.low) or (self.high is not None and value > self.high):
                return "range", f"expected {range_text(self)}, found {value!r}"
        elif self.domain is not None and self.type == "text" and value not in self.domain:
            return "domain", f"found {value!r}, which is none of the {len(self.domain)} known values"
        return None


class ReferencePeriod(msgspec.Struct, frozen=True):
    """The reference: the requests with event times in [`start`, `end`), and their number."""

    start: datetime
    end: datetime
    requests: int


class Schema(msgspec.Struct, frozen=True, dict=True):
    """The schema of a case's features: the expected type, range, share of missing values and so on of each.

    It is a JSON file beside the case, which people read and edit. `driftline data schema CASE --freeze`
    infers it from the requests of a reference period. `window` is the length, in seconds of event time, of
    the windows that are compared with it. `refusals` are the values that it refuses, for
    `UseCase(refusals=...)`.

    >>> from pathlib import Path
    >>> Schema.read(Path("flights.schema.json")).refusals                                 # doctest: +SKIP
    """

    case: str
    window: float
    reference: ReferencePeriod
    features: dict[str, FeatureSchema]

    def __post_init__(self) -> None:
        if not self.window > 0:
            raise ValueError(f"`window` is seconds > 0, not {self.window!r}")

    @classmethod
    def read(cls, path: Path) -> Schema:
        """The schema in a file; raises SchemaError when there is none."""
        try:
            return cls.of(path.read_bytes(), str(path))
        except FileNotFoundError:
            raise SchemaError(
                f"{path} is not there: `driftline data schema CASE --freeze` infers and writes it"
            ) from None

    @classmethod
    def of(cls, content: bytes, place: str) -> Schema:
        """The schema in a file's `content`; raises SchemaError, naming the `place` and the field."""
        try:
            return msgspec.json.decode(content, type=cls)
        except msgspec.MsgspecError as error:
            raise SchemaError(f"{place} is no schema of features: {error}") from error

    def encode(self) -> bytes:
        """The file: a line a field, so that a change of it reads well."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"

    @cached_property
    def digest(self) -> str:
        """sha256 of the content, in hex."""
        return hashlib.sha256(self.encode()).hexdigest()

    @property
    def refusals(self) -> RefusingFeatures:
        """What of this schema refuses single requests, for the declaration of a case."""
        refusing = {
            name: expected
            for name, expected in self.features.items()
            if "refuse" in expected.severity.values()
        }
        return RefusingFeatures(refusing)


class RefusingFeatures(msgspec.Struct, frozen=True):
    """The features by which single requests are refused: those with a kind of anomaly so severe. The rest of
    the schema can be edited without the case becoming another one."""

    features: dict[str, FeatureSchema]

    def reason(self, x: Mapping[str, Any]) -> str | None:
        """Why a request with the features `x` (None or absent: missing) is refused; None when it is not."""
        for name, expected in self.features.items():
            value = x.get(name)
            if value is None:
                if expected.missing == 0.0 and expected.severity_of("presence") == "refuse":
                    return f"{name}: presence: it may not be missing"
                continue
            anomaly = expected.anomaly_of(value)
            if anomaly is not None and expected.severity_of(anomaly[0]) == "refuse":
                return f"{name}: {anomaly[0]}: {anomaly[1]}"
        return None


def type_of(value: Any) -> Type:
    """The type of a value that is not missing."""
    return _TYPES[type(value)]


def types_of(values: Iterable[Any]) -> dict[Type, int]:
    """How many of the values, none of them missing, are of each type."""
    return {_TYPES[kind]: count for kind, count in Counter(map(type, values)).items()}


def range_text(expected: FeatureSchema) -> str:
    """The valid range, for people; an end that is open is infinite."""
    low = "-inf" if expected.low is None else f"{expected.low:g}"
    high = "inf" if expected.high is None else f"{expected.high:g}"
    return f"{low} to {high}"
