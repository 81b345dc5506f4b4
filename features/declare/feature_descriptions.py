"""Descriptions of a case's features: for people, for Feast's registry and for JSON Schema."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from driftline.features.declare.declaration import (
    Derived,
    Elapsed,
    Feature,
    Lookup,
    OnDemand,
    RequestField,
    View,
    Window,
)
from driftline.features.declare.notes import Note
from driftline.features.declare.on_demand import OnDemandView, value_kind
from driftline.features.errors import FeatureDeclarationError

JSON_TYPES = {float: "number", int: "integer", bool: "boolean", str: "string"}


class FeatureEntry(msgspec.Struct, frozen=True, omit_defaults=True):
    """One feature: its declaration as text, the Feast view that serves it (empty: none does), and its note.

    `type` is JSON Schema's, empty when the declaration does not say. `ttl`, `over` and `resolution` are
    seconds.
    """

    name: str
    declared: str
    type: str
    view: str = ""
    description: str = ""
    unit: str = ""
    owner: str = ""
    tags: Mapping[str, str] = {}
    valid: tuple[float | None, float | None] | None = None
    outside: str = ""
    over: float | None = None
    ttl: float | None = None
    max_keys: int | None = None
    monitored: bool = True
    resolution: float | None = None

    def __str__(self) -> str:
        facts = {
            "view": self.view,
            "type": self.type,
            "unit": self.unit,
            "valid": "" if self.valid is None else f"{_bounds(self.valid)}, else {self.outside}",
            "ttl": "" if self.ttl is None else f"{self.ttl:.15g} s",
            "keys": "" if self.max_keys is None else f"at most {self.max_keys:,} a partition",
            "owner": self.owner,
            "tags": ", ".join(f"{key}={text}" for key, text in self.tags.items()),
            "monitored": "" if self.monitored else "no",
        }
        lines = [self.name, f"    {self.declared}"]
        if self.description:
            lines.append(f"    {self.description}")
        lines += [f"    {fact}: {value}" for fact, value in facts.items() if value]
        return "\n".join(lines)


def _bounds(valid: tuple[float | None, float | None]) -> str:
    low, high = ("-" if bound is None else f"{bound:.15g}" for bound in valid)
    return f"{low} to {high}"


def catalogue(
    features: Mapping[str, Feature], ask: type, views: list[View], on_demand: list[OnDemandView]
) -> list[FeatureEntry]:
    """The features of a case in the order of declaration."""
    homes = {name: view.name for view in views for name in view.features}
    homes |= {name: view.name for view in on_demand for name in view.features}
    return [_entry(name, features, ask, homes.get(name, "")) for name in features]


def _entry(name: str, features: Mapping[str, Feature], ask: type, view: str) -> FeatureEntry:
    feature = features[name]
    note = feature.note
    window = feature.window if isinstance(feature, Elapsed) else feature
    return FeatureEntry(
        name,
        in_words(feature),
        json_type(name, features, ask),
        view,
        note.description,
        note.unit,
        note.owner,
        note.tags,
        note.valid,
        "" if note.valid is None else note.outside,
        window.over if isinstance(window, Window) else None,
        window.lifetime
        if isinstance(window, Window)
        else feature.ttl
        if isinstance(feature, Lookup)
        else None,
        window.max_keys if isinstance(window, Window) else None,
        note.monitor,
        window.resolution if isinstance(window, Window) else None,
    )


def json_type(name: str, features: Mapping[str, Feature], ask: type) -> str:
    """JSON Schema's name of a feature's type; empty when the declaration does not say."""
    try:
        return JSON_TYPES[value_kind(name, features, ask)]
    except FeatureDeclarationError:
        return ""


def json_schema(features: Mapping[str, Feature], ask: type) -> dict[str, Any]:
    """JSON Schema of the features of a prediction: of each its type, unit, description and valid range."""
    return {
        "type": "object",
        "properties": {name: _property(name, features, ask) for name in features},
        "additionalProperties": False,
    }


def _property(name: str, features: Mapping[str, Feature], ask: type) -> dict[str, Any]:
    note = features[name].note
    low, high = note.valid if note.valid is not None and note.outside != "keep" else (None, None)
    annotations = {
        "type": json_type(name, features, ask),
        "description": note.description or in_words(features[name]),
        "unit": note.unit,
        "owner": note.owner,
        "tags": dict(note.tags),
    }
    schema: dict[str, Any] = {key: value for key, value in annotations.items() if value}
    bounds = {"minimum": low, "maximum": high}
    return schema | {key: bound for key, bound in bounds.items() if bound is not None}


def feast_tags(note: Note) -> dict[str, str]:
    """The tags of a feature's Feast field: its own, owner, unit and valid range."""
    tags = dict(note.tags)
    if note.owner:
        tags["owner"] = note.owner
    if note.unit:
        tags["unit"] = note.unit
    if note.valid is not None:
        bounds = dict(zip(("valid_min", "valid_max"), note.valid, strict=True))
        tags |= {name: f"{bound:.15g}" for name, bound in bounds.items() if bound is not None}
    return tags


def shared_tags(notes: list[Note]) -> dict[str, str]:
    """The tags that all notes have."""
    return {key: text for key, text in notes[0].tags.items() if all(n.tags.get(key) == text for n in notes)}


def owners(notes: list[Note]) -> str:
    """The owners of some features, by name."""
    return ", ".join(sorted({note.owner for note in notes if note.owner}))


def in_words(feature: Feature) -> str:
    """How a feature is computed, as text."""
    match feature:
        case RequestField():
            return f"{feature.name} of the request"
        case Derived():
            return f"{name_of(feature.function)} of the request"
        case Lookup():
            return f"{feature.field} of the {feature.event.__name__} with the same {feature.by}"
        case Elapsed():
            window = feature.window
            return (
                f"seconds since the newest {window.event.__name__} by {', '.join(window.by)} over "
                f"{window.over:.15g} s"
            )
        case OnDemand():
            what = feature.operation if feature.function is None else name_of(feature.function)
            return f"{what} of {', '.join(feature.of)}"
        case Window():
            return _window_in_words(feature)


def _window_in_words(window: Window) -> str:
    value = "" if window.value is None else f".{name_of(window.value)}"
    argument = {"lag": " {:g}", "decayed": " with half-life {:.15g} s", "distinct": " up to {:g}"}
    steps = "" if window.resolution is None else f" in steps of {window.resolution:.15g} s"
    how = argument.get(window.aggregate, "").format(window.argument)
    return (
        f"{window.aggregate}{how} of {window.event.__name__}{value} by {', '.join(window.by)} over "
        f"{window.over:.15g} s{steps}"
    )


def name_of(value: str | Callable[..., Any]) -> str:
    """A field's name, or a function's."""
    return value if isinstance(value, str) else getattr(value, "__qualname__", type(value).__qualname__)
