"""Gives rights on a Kafka, as a user who may do so."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from driftline.infra.errors import InfraError
from driftline.infra.topics.rights import Right


def allow(bootstrap: str, principal: str, rights: Sequence[Right]) -> None:
    """Allow them from every host; what is allowed already stays. Raises InfraError, KafkaError."""
    from kafka.admin import (
        ACL,
        ACLOperation,
        ACLPermissionType,
        ACLResourcePatternType,
        ResourcePattern,
        ResourceType,
    )

    from driftline.streams.connection import clients

    kinds = {
        "Topic": ResourceType.TOPIC,
        "Group": ResourceType.GROUP,
        "TransactionalId": ResourceType.TRANSACTIONAL_ID,
    }
    operations = {operation.name.replace("_", ""): operation for operation in ACLOperation}
    with closing(clients.admin(bootstrap)) as admin:
        given = admin.create_acls(
            [
                ACL(
                    principal=principal,
                    host="*",
                    operation=operations[right.operation.upper()],
                    permission_type=ACLPermissionType.ALLOW,
                    resource_pattern=ResourcePattern(
                        kinds[right.resource_type],
                        right.name,
                        ACLResourcePatternType[right.pattern_type.upper()],
                    ),
                )
                for right in rights
            ]
        )
    if given["failed"]:  # kafka-python keeps the kinds of the errors alone
        reasons = sorted({f"{error.__name__}: {error.description}" for error in given["failed"]})
        raise InfraError(
            f"{principal} was not given {len(given['failed'])} of {len(rights)} rights: {'; '.join(reasons)}"
        )
