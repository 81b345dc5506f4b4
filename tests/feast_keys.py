"""Keys as Feast has them."""

from __future__ import annotations

from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value


def entity_key(names: tuple[str, ...], values: tuple[str, ...]) -> EntityKey:
    """The entity key of text values."""
    return EntityKey(join_keys=names, entity_values=[Value(string_val=value) for value in values])
