"""Turns one pending prediction into bytes, a sixth of the memory of its objects, and back. The bytes are a
pickle of plain values, so each value keeps its type. The pickler remembers nothing (`fast`): equal
predictions have equal bytes, whichever objects they share. The names of keys and features are those of the
declaration, and are left out.
"""

from __future__ import annotations

from pickle import loads
from typing import Any

from driftline.features.state.segment_store import PiecePickler
from driftline.online_models.pool.pool import Forecast
from driftline.streams.waiting.prediction import PendingPrediction

_LABEL_KEY = 5
"""Where the label key is among the values of a packed prediction."""
_REMEMBERED = 1_000
"""Sets of names that are looked at once: which values are missing seldom differs more."""


class _Names:
    """Leaves out the names of a mapping if they are `names`, in their order, some of them missing. Such a
    mapping becomes a tuple, or a list with None for a missing value. Any other is kept as it is, as is one
    with a value that is None.
    """

    __slots__ = ("_in_order", "_names")

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = names
        self._in_order: dict[tuple[str, ...], bool] = {}

    def without(self, named: dict[str, Any] | None) -> Any:
        if named is None:
            return None
        present = tuple(named)
        if present == self._names:
            return tuple(named.values())
        is_in_order = self._in_order.get(present)
        if is_in_order is None:
            is_in_order = present == tuple(name for name in self._names if name in named)
            if len(self._in_order) < _REMEMBERED:
                self._in_order[present] = is_in_order
        values = [*map(named.get, self._names)]
        is_whole = is_in_order and values.count(None) == len(values) - len(named)
        return values if is_whole else named

    def again(self, values: Any) -> dict[str, Any] | None:
        if values.__class__ is tuple:
            return dict(zip(self._names, values, strict=True))
        if values.__class__ is list:
            return {n: value for n, value in zip(self._names, values, strict=True) if value is not None}
        return values  # type: ignore[no-any-return]


class Packing:
    """Packs and unpacks predictions with these names of keys and features, as they are declared."""

    def __init__(self, keys: tuple[str, ...], features: tuple[str, ...]) -> None:
        self._keys = _Names(keys)
        self._features = _Names(features)
        self._pickler = PiecePickler()

    def pack(self, pending: PendingPrediction) -> bytes:
        """The bytes of a prediction."""
        p, forecast, event_id = pending, pending.forecast, pending.event_id
        values = (
            p.number,
            event_id,
            p.prediction_id[len(event_id) :] if p.prediction_id.startswith(event_id) else (p.prediction_id,),
            p.at,
            p.key,
            p.label_key,
            self._keys.without(p.keys),
            self._features.without(p.x),
            p.deadline,
            None if forecast is None else _values_of(forecast),
            p.prediction,
            p.silent,
            None
            if p.status == "open"
            else (p.status, p.label, p.learned, p.revision, p.closed_at, p.answered_by),
        )
        return self._pickler.pickled(values)

    @staticmethod
    def label_key(packed: bytes) -> Any:
        """The label key in bytes that `pack` made: a restore of many needs only this."""
        return loads(packed)[_LABEL_KEY]

    def unpack(self, packed: bytes) -> PendingPrediction:
        """The prediction in bytes that `pack` made."""
        number, event_id, name, at, key, label_key, keys, x, deadline, *answer = loads(packed)
        forecast, prediction, silent, end = answer
        pending = PendingPrediction(
            event_id + name if name.__class__ is str else name[0],
            event_id,
            at,
            key,
            label_key,
            self._keys.again(keys) or {},
            self._features.again(x),
            deadline,
            None if forecast is None else Forecast(*forecast),
            prediction,
            silent=silent,
            number=number,
        )
        if end is not None:
            p = pending
            p.status, p.label, p.learned, p.revision, p.closed_at, p.answered_by = end
        return pending


def _values_of(forecast: Forecast) -> tuple[Any, ...]:
    f = forecast
    return (
        f.serving, f.version, f.learned_through, f.output, f.outputs, f.row, f.at, f.offset, f.reach,
        f.unanswered,
    )  # fmt: skip
