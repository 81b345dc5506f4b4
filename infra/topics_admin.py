"""Creates the topics of a case; never changes those that are there."""

from __future__ import annotations

from collections.abc import Sequence

from infra.errors import InfraError
from streams.topics import TopicSpec


def ensure_topics(bootstrap: str, specs: Sequence[TopicSpec], *, fresh: bool = False) -> list[str]:
    """Create what is missing, with partitions and retention; returns the names created.

    A topic with another partition count is refused: it decides where keys live. `fresh` deletes the
    topics first.
    """
    from kafka import KafkaAdminClient
    from kafka.admin import NewTopic

    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        existing = set(admin.list_topics())
        names = [spec.name for spec in specs]
        if fresh and existing.intersection(names):
            admin.delete_topics([name for name in names if name in existing])
            existing = _without(admin, names)
        for description in admin.describe_topics([name for name in names if name in existing]):
            found = len(description["partitions"])
            wanted = next(s.partitions for s in specs if s.name == description["name"])
            if found != wanted:
                raise InfraError(
                    f"topic {description['name']} has {found} partitions, the case declares {wanted}. The "
                    "count decides where keys live and cannot change: use the declared count of before, "
                    "or another namespace"
                )
        missing = [spec for spec in specs if spec.name not in existing]
        if missing:
            admin.create_topics([NewTopic(s.name, s.partitions, 1, topic_configs=s.config) for s in missing])
            _with(admin, [spec.name for spec in missing])
        return [spec.name for spec in missing]
    finally:
        admin.close()


def _without(admin: object, names: Sequence[str]) -> set[str]:
    return _until(admin, lambda topics: not topics.intersection(names), "deletion")


def _with(admin: object, names: Sequence[str]) -> set[str]:
    return _until(admin, lambda topics: topics.issuperset(names), "creation")


def _until(admin: object, done, what: str) -> set[str]:  # type: ignore[no-untyped-def]
    import time

    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        topics: set[str] = set(admin.list_topics())  # type: ignore[attr-defined]
        if done(topics):
            return topics
        time.sleep(0.05)
    raise InfraError(f"the broker did not finish the {what} of topics within 30 s")
