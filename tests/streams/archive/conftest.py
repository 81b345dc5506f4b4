"""Producers of the tests of archives."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from kafka import KafkaProducer


@pytest.fixture
def transactional(bootstrap: str) -> Iterator[KafkaProducer]:
    """One whose records come in transactions."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, transactional_id=f"test.{uuid.uuid4().hex[:8]}")
    producer.init_transactions()
    yield producer
    producer.close()
