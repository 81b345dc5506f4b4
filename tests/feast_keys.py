"""Keys as Feast has them."""

from __future__ import annotations

from typing import Any

from driftline.features.feast.registry import _import_feast

_import_feast()  # else six more seconds of CPU in each process, before its first test


def entity_key(names: tuple[str, ...], values: tuple[str, ...]) -> Any:
    """The entity key of text values."""
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    return EntityKey(join_keys=names, entity_values=[Value(string_val=value) for value in values])
