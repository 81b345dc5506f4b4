"""Checks that the fields that a feature names exist in their events, and have suitable types."""

from __future__ import annotations

from typing import Any

from driftline.declaration_check import suggestion
from driftline.features.declare.declaration import Elapsed, Feature, Lookup, RequestField, Window
from driftline.features.declare.field_types import field_types
from driftline.features.declare.keys import (
    holds_enum,
    kinds_of,
    never_equal,
    no_one_text,
    not_a_feature,
    not_a_key,
    number_function,
)
from driftline.features.errors import FeatureDeclarationError

_NUMBERS = (int, float, bool)


def check_fields(name: str, feature: Feature, ask: type) -> None:
    """Raises FeatureDeclarationError if a feature of requests `ask` names a field that does not exist, or
    whose type does not suit the declaration."""
    fields = _Fields(name)
    window = feature.window if isinstance(feature, Elapsed) else feature
    if isinstance(window, Window):
        fields.need_window(window, ask)
    elif isinstance(window, Lookup):
        fields.need_value(window.event, window.field)
        fields.need_key(window.event, window.by)
        fields.need_key(ask, window.by)
        fields.need_equal(window.event, ask, window.by)
    elif isinstance(window, RequestField):
        fields.need_value(ask, window.name)


class _Fields:
    """The fields that the feature `name` needs. Each check raises FeatureDeclarationError."""

    def __init__(self, name: str) -> None:
        self._name = name

    def need_window(self, window: Window, ask: type) -> None:
        """The key's fields in the events and in the request, and the field that is aggregated."""
        for key in window.by:
            for event in (window.event, ask):
                self.need_key(event, key)
                self._fail(no_one_text(event, key))
            self.need_equal(window.event, ask, key)
        if isinstance(window.value, str):
            self._need_field(window.event, window.value)
            texts = window.aggregate == "distinct"
            if not _holds(field_types(window.event)[window.value], (*_NUMBERS, str) if texts else _NUMBERS):
                hint = number_function(window.event, window.value)
                self._fail(
                    f"windows hold numbers{' and texts' if texts else ''}, and "
                    f"{window.event.__name__}.{window.value} is no "
                    f"{'int, float, bool or str' if texts else 'int, float or bool'}"
                    + (f": write value={hint}" if hint else "")
                )

    def need_value(self, event: type, field: str) -> None:
        """A field whose values can be a feature's."""
        self._need_field(event, field)
        self._fail(not_a_feature(event, field))

    def need_key(self, event: type, field: str) -> None:
        """A field whose values can be keys."""
        self._need_field(event, field)
        self._fail(not_a_key(event, field))

    def need_equal(self, event: type, ask: type, field: str) -> None:
        """A field whose values in the event can equal those in the request."""
        self._fail(never_equal(event, ask, field))

    def _need_field(self, event: type, field: str) -> None:
        fields = getattr(event, "__struct_fields__", ())
        if field not in fields:
            self._fail(f"{event.__name__} has no field {field!r}" + suggestion(field, fields))

    def _fail(self, reason: str | None) -> None:
        """Raises FeatureDeclarationError if there is a reason."""
        if reason is not None:
            raise FeatureDeclarationError(f"feature {self._name!r}: {reason}")


def _holds(hint: Any, allowed: tuple[type, ...]) -> bool:
    """Whether a field of this type holds these kinds or None and nothing else."""
    kinds = kinds_of(hint)
    return bool(kinds) and not holds_enum(hint) and set(kinds) <= set(allowed)
