"""Logs drawn at random: events of a drawn case, and what is broken of them in every way."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from driftline.streams.simulation.sources import LogRecord

START = datetime(2024, 1, 1, tzinfo=UTC)
SHOPS = ("s", "w", "é")
ORDERS = ("o1", "o2", "o3", "o4")
PLACES = (3, 1, 2**62, 4, None)
# neither True nor "1": one key with two texts, or two keys with one, are the declaration's to refuse
THINGS = (None, 1, 1.5, "x", [1], {"a": 1}, [[]], "", "t" * 3_000, 10**40)
TEXTS = ("", "a", "b", "\x00", "é" * 50, "x" * 500)
NUMBERS = (0, 1, 0.1, 0.5, 1.7, 2.2, -3.1, 1e15, -1e15, 5e-324, 7, 12.8)
TIMES = ("2024-01-01T00:00:00", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", 3, "soon", None)


def fields_of(random: Random, kind: str) -> dict[str, Any]:
    """What an event of the kind says beside its id and time, as its type has it."""
    order, thing = random.choice(ORDERS), random.choice(THINGS)
    text = random.choice(TEXTS) if random.random() < 0.97 else "y" * 30_000
    if kind == "product":
        return {"order": order, "thing": thing, "weight": random.choice((*NUMBERS, None)), "text": text}
    said: dict[str, Any] = {
        "shop": random.choice(SHOPS), "order": order, "place": random.choice(PLACES), "thing": thing
    }  # fmt: skip
    if kind == "asked":
        said |= {
            "amount": random.choice(NUMBERS),
            "pieces": random.choice((None, 3, 3, 2**53 + 1, 10**18)),
            "flag": random.random() < 0.5,
            "colour": random.choice(("red", "blue", None)),
            "when": random.choice((None, "2024-01-01T01:00:00+01:00", "2024-01-01T00:00:00")),
            "code": random.choice((None, "12345678123456781234567812345678")),
            "text": text,
        }
    if kind == "settled":
        said |= {"bad": random.choice(NUMBERS), "text": random.choice((None, text)), "colour": "red"}
    # a producer may leave out what has a default
    kept = ("shop", "order")
    return {name: value for name, value in said.items() if name in kept or random.random() < 0.8}


def _drop_a_field(random: Random, said: dict[str, Any]) -> None:
    said.pop(random.choice(sorted(said)))


def _mistype_a_field(random: Random, said: dict[str, Any]) -> None:
    said[random.choice(sorted(said))] = random.choice((None, "one", 1, [], {}, 1e300, -(10**400), "\ud800"))


def _add_a_field(random: Random, said: dict[str, Any]) -> None:
    said[random.choice(("more", "", "Id"))] = 1


def _change_the_time(random: Random, said: dict[str, Any]) -> None:
    said["at"] = random.choice(TIMES)


def _change_the_type(random: Random, said: dict[str, Any]) -> None:
    said["type"] = random.choice(("command", "serve", "warm-up", "clock", "nothing", None))


BREAKS: tuple[Callable[[Random, dict[str, Any]], None], ...] = (
    _drop_a_field, _mistype_a_field, _add_a_field, _change_the_time, _change_the_type
)  # fmt: skip
NOISE: tuple[bytes | None, ...] = (
    None, b"", b"{", b"null", b"[" * 3_000, b'{"type":"asked","type":"asked"}', b"\xff\xfe", b"7" * 70_000
)  # fmt: skip


APPENDED_AFTER = (0.0, 0.0, 0.02, 1.5, 70.0, 4_000.0, -0.5, -90.0, -86_400.0, None)
"""Seconds from an event's own time to its append time; None: its topic does not tell."""


class LogOf:
    """Builds the records of one partition from numbers, each of which decides one record."""

    def __init__(self) -> None:
        self.records: list[LogRecord] = []
        self._seconds = 0.0
        self._appended = -1
        self._labels: list[str] = []

    def add(self, number: int) -> None:
        """The record that the number stands for."""
        random = Random(number)
        offset = self.records[-1].offset + random.choice((1, 1, 1, 3)) if self.records else 0
        chance = random.random()
        self._appended = _append_time(random, self._seconds)
        if chance < 0.04:
            self._put(offset, random.choice((b"s", None, b"k" * 5_000)), random.choice(NOISE))
        elif chance < 0.1 and self.records:
            before = random.choice(self.records)
            self._put(offset, before.key, before.value)
        else:
            self._event(random, offset, number)

    def _event(self, random: Random, offset: int, number: int) -> None:
        kind = random.choice(
            ("asked", "asked", "asked", "settled", "settled", "settled", "dropped", "product", "clock")
        )
        self._seconds += random.choice((0.0, 0.0, 0.4, 1.0, 9.0, 40.0))
        behind = 0.0 if random.random() < 0.9 else random.choice((3.0, 50.0, 5_000.0, -700.0, -20.0))
        at = START + timedelta(seconds=self._seconds - behind)
        said: dict[str, Any] = {"type": kind, "id": f"e{number}" if random.random() < 0.95 else "same"}
        said |= {"at": at.isoformat()}
        if kind != "clock":
            said |= fields_of(random, kind)
        if kind in ("settled", "dropped") and random.random() < 0.25:
            said["corrects"] = random.choice((*self._labels[-4:], "nobody", 7))
        if kind == "settled":
            self._labels.append(said["id"])
        key = str(said.get("shop", "s")).encode()
        if random.random() < 0.12:
            random.choice(BREAKS)(random, said)
        if random.random() < 0.03:
            key = random.choice((b"elsewhere", b"", "é".encode("latin-1")))
        value = json.dumps(said, ensure_ascii=random.random() < 0.5, indent=random.choice((None, 1)))
        raw = value.encode("utf-8", "surrogatepass")
        if random.random() < 0.03:
            raw = raw[: random.randrange(len(raw))]
        self._put(offset, None if kind in ("product", "clock") else key, raw)

    def _put(self, offset: int, key: bytes | None, value: bytes | None) -> None:
        self.records.append(LogRecord(offset, key, value, self._appended))  # type: ignore[arg-type]


def _append_time(random: Random, seconds: float) -> int:
    """Milliseconds; mostly soon after the event's own time, at times a clock that is wrong, or went back."""
    after = random.choice(APPENDED_AFTER) if random.random() < 0.3 else random.choice((0.0, 0.02, 1.5))
    return -1 if after is None else int((START.timestamp() + seconds + after) * 1_000)


def log_of(numbers: list[int]) -> list[LogRecord]:
    """The log that these numbers stand for."""
    log = LogOf()
    for number in numbers:
        log.add(number)
    return log.records
