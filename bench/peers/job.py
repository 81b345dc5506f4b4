"""The job as a team would write it by hand on a stream framework: the same features, the same
predictions, in floats, without driftline's guarantees.

Everything else that driftline does is left out, in the peers' favour: no checks of the input, no
deduplication, no watermark, no late events, no expiry of labels, no corrections, no baselines, metrics or
monitors. References and River models are always in plain memory.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from math import log, sqrt
from operator import attrgetter
from pathlib import Path
from time import process_time
from typing import Any, Protocol

from driftline.bench.log import Log
from driftline.features.declare.declaration import Derived, Lookup, RequestField, Window
from driftline.streams.code.hash_seed import pin
from driftline.streams.declare.events import Event
from driftline.streams.declare.usecase import UseCase, load_case

Out = tuple[str, dict[str, Any]]


class Store(Protocol):
    """The store of windows and waiting requests: a framework's state, or a dict."""

    def get(self, key: str) -> Any: ...
    def set(self, key: str, value: Any) -> None: ...
    def delete(self, key: str) -> None: ...


class Memory:
    """Plain memory as a store."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self.get = self._values.get
        self.set = self._values.__setitem__

    def delete(self, key: str) -> None:
        """Remove a key."""
        del self._values[key]


def _key(prefix: str, by: tuple[str, ...]) -> Callable[[Any], str]:
    if len(by) == 1:
        one = attrgetter(by[0])
        return lambda event: f"{prefix}{one(event)}"
    many = attrgetter(*by)
    return lambda event: prefix + "|".join(map(str, many(event)))


class _Table:
    """Windows over one value of one event type: [sum, sum of squares, times, values] for each key, or [time,
    value] if only the newest value is needed."""

    def __init__(self, number: int, window: Window) -> None:
        value = window.value
        self.key = _key(f"{number}|", window.by)
        self.keys = window.by
        self.over = window.over
        self.newest_only = window.aggregate == "latest"
        self.value: Callable[[Any], Any] = (
            (lambda _: 1.0) if value is None else attrgetter(value) if isinstance(value, str) else value
        )

    def add(self, event: Any, at: float, store: Store) -> None:
        value = self.value(event)
        if value is None or any(getattr(event, name) is None for name in self.keys):
            return
        key = self.key(event)
        if self.newest_only:
            store.set(key, [at, value])
            return
        kept = store.get(key)
        if kept is None:
            kept = [0.0, 0.0, [], []]
        else:
            self._expire(kept, at)
        kept[0] += value
        kept[1] += value * value
        kept[2].append(at)
        kept[3].append(value)
        store.set(key, kept)

    def _expire(self, kept: list[Any], at: float) -> None:
        bound = at - self.over
        times = kept[2]
        gone = 0
        for time in times:
            if time > bound:
                break
            gone += 1
        if gone:
            for value in kept[3][:gone]:
                kept[0] -= value
                kept[1] -= value * value
            del times[:gone]
            del kept[3][:gone]
            if not times:
                kept[0] = kept[1] = 0.0

    def values(self, request: Any, at: float, store: Store) -> list[Any] | None:
        """The content of the window at `at`."""
        kept: list[Any] | None = store.get(self.key(request))
        if kept is None:
            return None
        if self.newest_only:
            return kept if kept[0] > at - self.over else None
        self._expire(kept, at)
        return kept if kept[2] else None


def _aggregate(window: Window, kept: list[Any] | None) -> Any:
    match window.aggregate:
        case "latest":
            return None if kept is None else kept[1]
        case "count":
            return 0 if kept is None else len(kept[2])
        case "mean":
            return None if kept is None else kept[0] / len(kept[2])
        case "sum":
            return 0.0 if kept is None else kept[0]
        case "rate":
            return 0.0 if kept is None else len(kept[2]) / window.over
        case "min":
            return None if kept is None else min(kept[3])
        case "max":
            return None if kept is None else max(kept[3])
        case "std":
            if kept is None:
                return None
            mean = kept[0] / len(kept[2])
            return sqrt(max(kept[1] / len(kept[2]) - mean * mean, 0.0))


class Job:
    """The job of one process. Events are objects with attributes, named by their tag; `at` is a
    datetime. `take` returns what is to be put out: ("predictions" | "outcomes", message). `key` is an
    event's key."""

    def __init__(self, case: UseCase) -> None:
        case.models.first.born()  # imports River now, not at the first event
        self._case = case
        self._task = case.task
        label = self._task.label
        tag = {event: str(event.__struct_config__.tag) for event in case.events}
        self.asks = tag[self._task.ask]
        self._labels = tag[label.event]
        self._voids = {tag[event] for event in label.void}
        self._label_value = label.value
        self._join = attrgetter(label.on)
        self.key = attrgetter(case.key or label.on)
        self._names = case.key_fields
        self._models: dict[str, Any] = {}
        tables: dict[Any, _Table] = {}
        self._updates: dict[str, list[_Table]] = {}
        self._references: dict[str, list[tuple[Callable[[Any], Any], dict[Any, Any]]]] = {}
        self._windows: list[tuple[str, Window, _Table]] = []
        self._plain: list[tuple[str, Callable[[Any], Any]]] = []
        self._lookups: list[tuple[str, Callable[[Any], Any], dict[Any, Any], str]] = []
        for name, feature in case.features.items():
            match feature:
                case RequestField():
                    self._plain.append((name, attrgetter(feature.name)))
                case Derived():
                    self._plain.append((name, feature.function))
                case Window():
                    newest_only = feature.aggregate == "latest"
                    identity = (feature.event, feature.value, feature.by, feature.over, newest_only)
                    table = tables.get(identity)
                    if table is None:
                        table = tables[identity] = _Table(len(tables), feature)
                        self._updates.setdefault(tag[feature.event], []).append(table)
                    self._windows.append((name, feature, table))
                case Lookup():
                    found: dict[Any, Any] = {}
                    self._references.setdefault(tag[feature.event], []).append(
                        (attrgetter(feature.by), found)
                    )
                    self._lookups.append((name, attrgetter(feature.by), found, feature.field))

    def refer(self, tag: str, event: Any) -> bool:
        """Store a reference event; returns False for any other event."""
        tables = self._references.get(tag)
        if tables is None:
            return False
        for key_of, found in tables:
            found[key_of(event)] = event
        return True

    def take(self, tag: str, event: Any, store: Store) -> list[Out]:
        """Process one event."""
        if self.refer(tag, event):
            return []
        at = event.at.timestamp()
        out: list[Out] = []
        x = self._features(event, at, store) if tag == self.asks else None
        for table in self._updates.get(tag, ()):
            table.add(event, at, store)
        if x is not None:
            out.append(("predictions", self._predict(event, at, x, store)))
        if tag == self._labels:
            value = self._label_value(event)
            if value is not None:
                out.extend(self._close(event, at, "labelled", value, store))
        elif tag in self._voids:
            out.extend(self._close(event, at, "void", None, store))
        return out

    def _features(self, request: Any, at: float, store: Store) -> dict[str, Any]:
        x: dict[str, Any] = {}
        for name, plain in self._plain:
            value = plain(request)
            if value is not None:
                x[name] = value
        for name, window, table in self._windows:
            value = _aggregate(window, table.values(request, at, store))
            if value is not None:
                x[name] = value
        for name, key_of, found, field in self._lookups:
            known = found.get(key_of(request))
            value = getattr(known, field) if known is not None else None
            if value is not None:
                x[name] = value
        return x

    def _model(self, key: str) -> Any:
        model = self._models.get(key)
        if model is None:
            model = self._models[key] = self._case.models.first.born()
        return model

    def _predict(self, event: Any, at: float, x: dict[str, Any], store: Store) -> dict[str, Any]:
        key = self.key(event)
        output = self._task.predict(self._model(key), x)
        prediction = {
            "id": f"{event.id}:{self._task.name}",
            "event_id": event.id,
            "task": self._task.name,
            "at": event.at.isoformat(),
            "keys": {name: getattr(event, name) for name in self._names},
            "prediction": self._task.point(output),
            "probabilities": self._task.probabilities(output),
            "model": self._case.models.first.name,
            "features": x,
        }
        store.set(f"waiting|{self._join(event)}", [at, output, prediction])
        return prediction

    def _close(self, event: Any, at: float, status: str, label: Any, store: Store) -> list[Out]:
        waiting_key = f"waiting|{self._join(event)}"
        waiting = store.get(waiting_key)
        if waiting is None:
            return []
        store.delete(waiting_key)
        asked, output, prediction = waiting
        loss = None
        if status == "labelled":
            p = output if label else 1.0 - output
            loss = -log(max(p, 1e-15))
            self._model(self.key(event)).learn_one(prediction["features"], label)
        outcome = {
            "prediction_id": prediction["id"],
            "event_id": prediction["event_id"],
            "task": self._task.name,
            "at": event.at.isoformat(),
            "keys": prediction["keys"],
            "status": status,
            "prediction": prediction["prediction"],
            "model": prediction["model"],
            "label": label,
            "loss": loss,
            "horizon": at - asked,
        }
        return [("outcomes", outcome)]


def _measure(case: UseCase, log_: Log) -> dict[str, Any]:
    """CPU us a record of the job from memory to messages, decoding but not encoding; what comes out."""
    decode = case.codec().decode
    job = Job(case)
    stores = [Memory() for _ in range(log_.partitions)]
    counts = {"predictions": 0, "outcomes": 0}
    started = process_time()
    for partition, record in log_.sequence:
        event = decode(record.value, record.key)
        for topic, _ in job.take(tag_of(event), event, stores[partition]):
            counts[topic] += 1
    return {"cpu_us_per_event": (process_time() - started) / len(log_) * 1e6, "outputs": counts}


def tag_of(event: Event) -> str:
    """The tag of an event's type."""
    return str(type(event).__struct_config__.tag)


if __name__ == "__main__":
    pin()
    print(json.dumps(_measure(load_case(sys.argv[1]), Log.load(Path(sys.argv[2])))))
