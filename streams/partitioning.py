"""Where a key lives: Kafka's default partitioner (murmur2), the same for every client."""

from __future__ import annotations

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
