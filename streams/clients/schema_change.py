"""Breaking changes of a declaration: events of the log that it refuses, and fields that readers of
predictions miss. Schemas are those of `driftline.streams.clients.schema`, as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

_Schema = Mapping[str, Any]

_NO_LIMITS = frozenset({"title", "description", "default", "deprecated"})
"""Keywords that refuse nothing."""
_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", type(None): "null"}
"""JSON Schema's names of the types of values."""


def breaks(
    old: Mapping[str, _Schema], new: Mapping[str, _Schema], log: str, predictions: str
) -> Iterator[str]:
    """A text for each change by which old events are refused or old readers miss something. `log` and
    `predictions` name the topics in both.
    """
    after = _events(new[log])
    for tag, event in _events(old[log]).items():
        if tag not in after:
            yield f"event {tag!r} is gone: keep its class among the case's events, or old ones are refused"
        else:
            yield from _event_breaks(tag, event, after[tag])
    yield from _feature_breaks(_features(old[predictions]), _features(new[predictions]))


class _Resolved(msgspec.Struct, frozen=True):
    """A schema, and the named ones that it refers to."""

    schema: _Schema
    names: Mapping[str, _Schema]

    @property
    def fields(self) -> dict[str, _Resolved]:
        """The schemas of an object's properties."""
        return {
            name: _resolved(field, self.names) for name, field in self.schema.get("properties", {}).items()
        }


def _resolved(schema: _Schema, names: Mapping[str, _Schema]) -> _Resolved:
    while "$ref" in schema:
        schema = names[schema["$ref"].rpartition("/")[2]]
    return _Resolved(schema, names)


def _events(log: _Schema) -> dict[str, _Resolved]:
    """The schema of each event, by tag."""
    names = log["$defs"]
    return {tag: _resolved({"$ref": ref}, names) for tag, ref in log["discriminator"]["mapping"].items()}


def _features(predictions: _Schema) -> dict[str, _Resolved]:
    names = predictions["$defs"]
    features = names["Prediction"]["properties"]["features"]
    return _Resolved(features, names).fields


def _event_breaks(tag: str, old: _Resolved, new: _Resolved) -> Iterator[str]:
    before, after = old.fields, new.fields
    closed = new.schema.get("additionalProperties", True) is False
    for name, field in before.items():
        if name not in after:
            if closed:
                yield f'{tag}.{name} is gone: declare retired=("{name}",), or old events are refused'
        elif not after[name].schema.get("deprecated") and not _accepts(after[name], field):
            was, now = _type_text(field), _type_text(after[name])
            yield f"{tag}.{name} was {was} and is {now}: old events may be refused"
    for name in new.schema.get("required", ()):
        if name not in before:
            yield f"{tag}.{name} is new and has no default: old events are refused"
        elif name not in old.schema.get("required", ()):
            yield f"{tag}.{name} has no default any more: old events without it are refused"


def _feature_breaks(old: Mapping[str, _Resolved], new: Mapping[str, _Resolved]) -> Iterator[str]:
    for name, feature in old.items():
        if name not in new:
            yield f"feature {name} is gone from predictions: readers may need it"
        elif not _accepts(feature, new[name]):
            yield f"feature {name} was {_type_text(feature)} and is {_type_text(new[name])} in predictions"


def _alternatives(resolved: _Resolved) -> Iterator[_Resolved]:
    if "anyOf" in resolved.schema:
        for part in resolved.schema["anyOf"]:
            yield from _alternatives(_resolved(part, resolved.names))
    elif "enum" in resolved.schema:
        for value in resolved.schema["enum"]:
            yield _Resolved({"type": _TYPES[type(value)], "enum": [value]}, resolved.names)
    else:
        yield resolved


def _accepts(wide: _Resolved, narrow: _Resolved) -> bool:
    """Whether `wide` allows everything that `narrow` allows."""
    allowed = list(_alternatives(wide))
    return all(any(_covers(one, each) for one in allowed) for each in _alternatives(narrow))


def _covers(wide: _Resolved, narrow: _Resolved) -> bool:
    kind, other = wide.schema.get("type"), narrow.schema.get("type")
    if kind is not None and kind != other and (kind, other) != ("number", "integer"):
        return False
    limits = _limits(wide)
    return all(_limits(narrow).get(name) == limit for name, limit in limits.items())


def _limits(resolved: _Resolved) -> dict[str, Any]:
    """The keywords that refuse something, apart from the type; named schemas are replaced by their
    content."""
    return {
        name: _spelled(value, resolved.names)
        for name, value in resolved.schema.items()
        if name != "type" and name not in _NO_LIMITS
    }


def _spelled(value: Any, names: Mapping[str, _Schema], within: frozenset[str] = frozenset()) -> Any:
    """A keyword's value with named schemas replaced by their content, a recursive one once."""
    if isinstance(value, Mapping):
        ref = value.get("$ref")
        if ref in within:
            return ref
        if ref is not None:
            within |= {ref}
        schema = _resolved(value, names).schema
        return {
            name: _spelled(part, names, within) for name, part in schema.items() if name not in _NO_LIMITS
        }
    return [_spelled(part, names, within) for part in value] if isinstance(value, list) else value


def _type_text(resolved: _Resolved) -> str:
    parts = []
    for part in _alternatives(resolved):
        values = part.schema.get("enum")
        parts.append(repr(values[0]) if values else str(part.schema.get("type", "anything")))
    return " or ".join(parts)
