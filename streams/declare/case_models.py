"""Checks the models of a case before a fold starts. This imports River and takes some milliseconds a
model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from driftline.features.declare.declaration import Feature, Lookup, RequestField, kind_in
from driftline.features.declare.field_types import field_types
from driftline.online_models.members.check import check_models
from driftline.streams.declare.usecase import UseCase

REQUESTS = 24


def check_models_of(case: UseCase) -> None:
    """Let every member answer and learn from artificial requests. Raises ModelsError, see
    `driftline.online_models.members.check`."""
    check_models(case.models, case.task, list(_requests(case)))


def _requests(case: UseCase) -> Iterator[dict[str, Any]]:
    """Artificial requests with the features of the case, in their types."""
    texts = {name for name, feature in case.features.items() if _kind(case, feature) is str}
    for number in range(REQUESTS):
        yield {
            name: f"value {(number + place) % 3}" if name in texts else (7 * number + 3 * place) % 11 / 4
            for place, name in enumerate(case.features)
        }


def _kind(case: UseCase, feature: Feature) -> type | None:
    """The type of a feature that is a field of an event; None for a computed one."""
    if isinstance(feature, RequestField):
        return kind_in(field_types(case.task.ask)[feature.name])
    if isinstance(feature, Lookup):
        return kind_in(field_types(feature.event)[feature.field])
    return None
