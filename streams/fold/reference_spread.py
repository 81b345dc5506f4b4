"""Whether every partition knows the same references. If one is sent to some partitions only, requests in the
others miss it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from driftline.features.state.reference_tally import Tally


class KnownReferences(msgspec.Struct, frozen=True):
    """What one partition knows of one kind of reference: cells of its tally as (stretch, count, total), the
    first stretch that is whole there, and the key of the newest reference."""

    cells: tuple[tuple[int, int, int], ...]
    whole_from: int
    newest: str = ""

    @classmethod
    def of(cls, tally: Tally, watermark: float) -> KnownReferences:
        """As of a partition's watermark (seconds)."""
        cells = tuple((number, *cell) for number, cell in sorted(tally.cells.items()))
        return cls(cells, tally.whole_from(watermark), tally.newest[1] if tally.newest else "")

    def since(self, stretch: int) -> tuple[tuple[int, int, int], ...]:
        """The cells from a stretch on."""
        return tuple(cell for cell in self.cells if cell[0] >= stretch)


def differences(known: Mapping[int, Mapping[str, KnownReferences]]) -> dict[str, str]:
    """A report for each kind of reference on which partitions that have read the log to its end differ.
    `known` is by partition and kind.
    """
    found = {}
    for kind in sorted({kind for kinds in known.values() for kind in kinds}):
        spread = _difference(kind, {number: kinds[kind] for number, kinds in known.items() if kind in kinds})
        if spread:
            found[kind] = spread
    return found


def _difference(kind: str, known: Mapping[int, KnownReferences]) -> str:
    first = max(one.whole_from for one in known.values())
    groups: dict[Any, list[int]] = {}
    for number in sorted(known):
        groups.setdefault(known[number].since(first), []).append(number)
    if len(groups) == 1:
        return ""
    parts = []
    for cells, numbers in groups.items():
        count = sum(count for _, count, _ in cells)
        where = f"partition{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
        newest = f" (the newest: {known[numbers[0]].newest!r})" if count else ""
        parts.append(f"{count:,} in {where}{newest}")
    return (
        f"references of type {kind} are not the same in every partition: {'; '.join(parts)}. A request finds "
        "only those of its own partition: send each reference to every partition, as EventProducer, bridges "
        "and `driftline produce` do"
    )
