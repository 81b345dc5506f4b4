"""What Kafka says where rights cannot be given."""

from __future__ import annotations

import pytest
import shop

from driftline.infra.errors import InfraError
from driftline.infra.topics.acls import allow
from driftline.infra.topics.rights import rights
from driftline.streams.connection.roles import Role


def test_a_kafka_without_an_authorizer_is_named_as_the_reason(bootstrap: str) -> None:
    wanted = rights(Role.PRODUCER, shop.orders.topics())
    with pytest.raises(InfraError, match=rf"{len(wanted)} of {len(wanted)} rights: SecurityDisabledError"):
        allow(bootstrap, "User:producer", wanted)
