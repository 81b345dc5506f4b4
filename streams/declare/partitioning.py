"""The partition of a key: Kafka's default partitioner (murmur2), and the defaults of other clients."""

from __future__ import annotations

import zlib
from collections.abc import Callable

_MASK = 0xFFFFFFFF


def murmur2(data: bytes) -> int:
    """Kafka's 32-bit murmur2 of `data` (org.apache.kafka.common.utils.Utils.murmur2), unsigned.

    >>> murmur2(b"21") == (-973932308 & 0xFFFFFFFF)
    True
    """
    m = 0x5BD1E995
    length = len(data)
    h = (0x9747B28C ^ length) & _MASK
    whole = length & ~3
    for i in range(0, whole, 4):
        k = int.from_bytes(data[i : i + 4], "little") * m & _MASK
        k ^= k >> 24
        h = (h * m & _MASK) ^ (k * m & _MASK)
    rest = data[whole:]
    if rest:
        h = ((h ^ int.from_bytes(rest, "little")) * m) & _MASK
    h ^= h >> 13
    h = h * m & _MASK
    return h ^ (h >> 15)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of `key` among `partitions`."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


def _fnv1a(data: bytes) -> int:
    """32-bit FNV-1a (Fowler, Noll, Vo), as the absolute value of a signed number, which clients use.

    >>> _fnv1a(b"a") == abs(0xE40C292C - 2**32)
    True
    """
    h = 0x811C9DC5
    for byte in data:
        h = (h ^ byte) * 0x01000193 & _MASK
    return h if h < 0x80000000 else 2**32 - h


OTHER_PARTITIONERS: dict[str, Callable[[bytes], int]] = {
    "crc32 (the default of librdkafka: kcat, confluent's Python, Go, .NET; also Ruby's clients)": zlib.crc32,
    "FNV-1a (the default of sarama and of kafka-go's Hash)": _fnv1a,
    "murmur2 with its sign kept": murmur2,
}
"""Hashes of other clients, by name. Their partition is the hash modulo the number of partitions."""
REMEMBERED = 65_536
"""How many keys are remembered, so that their partition is not computed again."""


class Home:
    """Checks which keys belong in one partition of `partitions`. It has no state: `known` caches some keys
    that do."""

    def __init__(self, partition: int, partitions: int) -> None:
        self._partition = partition
        self._partitions = partitions
        self.known: set[bytes | None] = set()
        self.last_stranger = ""
        """The reason for the last key that does not belong here; empty before the first."""

    def refusal(self, key: bytes) -> str | None:
        """Why a record with this key does not belong here; None if it does."""
        if self._partitions == 1 or key in self.known:
            return None
        home = partition_of(key, self._partitions)
        if home == self._partition:
            if len(self.known) >= REMEMBERED:
                self.known.clear()
            self.known.add(key)
            return None
        self.last_stranger = self._stranger(key, home)
        return self.last_stranger

    def _stranger(self, key: bytes, home: int) -> str:
        by = [
            name
            for name, hashed in OTHER_PARTITIONERS.items()
            if hashed(key) % self._partitions == self._partition
        ]
        cause = (
            f"the producer may choose partitions by {' or '.join(by)}"
            if by
            else "no hash that is known puts it here"
        )
        return (
            f"key {key[:64]!r} belongs in partition {home}, and came in {self._partition}: {cause}. Set the "
            "producer's partitioner to murmur2 (partitioner=murmur2_random in librdkafka), and the number of "
            f"partitions it knows to {self._partitions}"
        )
