"""Names: no two cases, in whichever namespaces, have one name for anything."""

from __future__ import annotations

from collections import Counter
from itertools import product
from pathlib import Path

import pytest
from parcels import payments_on_4
from shop import orders
from till import till

from driftline.features.feast.repository_location import RepositoryLocation
from driftline.infra.processes.slot import status_path
from driftline.infra.settings import Settings
from driftline.streams.declare.topics import Topics
from driftline.streams.errors import DeclarationError

NAMESPACES = ("", "a", "a.b", "a_b", "a-2", "a.events", "b", "till", "a.events.worker")
CASES = ("a", "b", "c", "a_b", "a-2", "b_c", "events", "till", "worker", "dead-letters", "bridge")


def names_of(namespace: str, case: str) -> list[str]:
    """All that is named after a case in a namespace."""
    topics = Topics(case, 1, namespace)
    now = Settings(home=Path("home"), bootstrap=None, namespace=namespace, checkpoints="s3://bucket/all")
    place = RepositoryLocation.of(case, now.home, namespace, "sqlite", None)
    return [
        *(topic.name for topic in topics.all()), topics.of_bridge("till"), topics.of_bridge("events"),
        f"{topics.log}.worker.0a1b", f"{topics.log}.archiver", f"{topics.log}.bridge.till.id",
        f"driftline.{topics.log}.0", str(place.path), f"project {place.project}",
        now.checkpoints_uri(case), now.archive_uri(case),
        *(str(status_path(now, case, number)) for number in (1, 2, 3)),
    ]  # fmt: skip


def test_nothing_of_two_cases_has_one_name() -> None:
    named = Counter(
        name for namespace, case in product(NAMESPACES, CASES) for name in names_of(namespace, case)
    )
    assert [name for name, times in named.items() if times > 1] == []


def test_the_topics_of_a_case_in_a_namespace_of_several_words_keep_their_names() -> None:
    assert orders.topics("shop.prod").log == "shop.prod.orders.events"
    assert till.dead_letters("shop") == f"shop.{till.case.name}.dead-letters-till"


def test_a_case_whose_name_had_a_dot_is_shown_how_to_keep_its_topics() -> None:
    from dataclasses import replace

    with pytest.raises(DeclarationError, match="or 'orders' in the namespace 'shop', whose topics have the"):
        replace(orders, name="shop.orders")


def test_topics_of_a_chain_have_the_partitions_of_who_writes_them() -> None:
    topics = payments_on_4.topics()
    found = {spec.name: spec.partitions for spec in [*topics.all(), *topics.between("0a1b")]}
    assert found == {
        "payments.events": 4,
        "payments.by-merchant.0a1b": 4,
        "payments.by-device.0a1b": 4,
        "payments.questions.0a1b": 1,
        **{
            f"payments.{kind}": 1
            for kind in ("predictions", "outcomes", "drift", "models", "statistics", "anomalies")
        },
        "payments.dead-letters": 13,
    }
    assert orders.topics().between("0a1b") == []
    assert {spec.partitions for spec in orders.topics().all()} == {orders.partitions}
