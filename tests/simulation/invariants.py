"""Invariants at the end of a run, checked against the true history and not against the code's own reports."""

from __future__ import annotations

from typing import Any

from driftline.streams.archive.epochs import is_epoch
from driftline.streams.checkpoints.checkpoint import CheckpointHeader, input_hash
from driftline.streams.code.state_hash import state_hash
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.owner.partition_fold import PartitionFold
from driftline.streams.records.positions import headers_of, source_of
from tests.simulation.chaos import sound_headers
from tests.simulation.orders import CODE
from tests.simulation.worker import Worker
from tests.simulation.world import PARTITION, Violation, World, newest_wins
from tests.streams.checkpoints.comparable_state import comparable


class Reference:
    """The log folded without any fault: outputs by kind, newest online rows, state."""

    def __init__(self, world: World) -> None:
        self.processor = PartitionProcessor(world.case, PARTITION, rows=True)
        self.outputs: dict[str, list[Any]] = {kind: [] for kind in world.kinds}
        self.rows: dict[Any, Any] = {}
        for record in world.log.entries:
            if record is None:
                continue
            out = self.processor.step([record])
            for kind, made in self.outputs.items():
                made.extend(getattr(out, kind))
            newest_wins(self.rows, out.rows)


ONE_TIME = 1e-3
"""Seconds within which the stamps of rows are of one event time: other events are further apart."""


def check_complete(world: World, reference: Reference) -> None:
    """Everything is published exactly once, and the online store holds the newest rows."""
    check_published(world, reference)
    if world.log_truncated:
        return  # rows of the lost end of the log may be newer than any that the log still makes
    if world.online_losses:
        check_rows_put_again(world, reference)
    elif world.online != reference.rows:
        different = [key for key in reference.rows if world.online.get(key) != reference.rows[key]]
        raise Violation(f"online rows differ at {different or sorted(world.online)}")


def check_rows_put_again(world: World, reference: Reference) -> None:
    """Every row that has not expired is in an online store that has lost rows. Its values are those of the
    time when it was put again, of which nothing but its stamp is known here: that of the key's newest event,
    or some microseconds later if the key had several at one time."""
    for key, row in reference.processor.intake.every_row():
        if key not in world.online or not row[0] <= world.online[key][0] < row[0] + ONE_TIME:
            raise Violation(f"the online row of {key} is not that of {row[0]}, but {world.online.get(key)}")


def check_owner(world: World, worker: Worker) -> None:
    """A worker that has served in peace for a while knows the topics that there are, and that rows were
    lost."""
    task = worker.task
    if not worker.busy or task is None or task.state != "serving" or task.owned is None:
        return
    if task.owned.owes_rows:
        raise Violation(f"{worker.process.name} has not put the lost rows again")
    for kind, mark in task.owned.header().outputs.items():
        if mark.topic_id != world.places[world.kinds[kind]].topic_id:
            raise Violation(f"{kind} was recreated, and {worker.process.name} serves on")


def check_state(reference: Reference, processor: PartitionFold) -> None:
    """The last owner is in the state of a run without faults."""
    folded, expected = state_hash(processor.state()), state_hash(reference.processor.state())
    if folded != expected:
        raise Violation(f"the last owner's state is {folded}, that of a run without faults {expected}")


def check_comparable_state(reference: Reference, processor: PartitionFold) -> None:
    """The same of an owner whose windows may be on disk."""
    folded, expected = (state_hash(comparable(one.state())) for one in (processor, reference.processor))
    if folded != expected:
        raise Violation(f"the last owner's state is {folded}, that of a run without faults {expected}")


def check_published(world: World, reference: Reference) -> None:
    """Every output is published once, in order, with the bytes of a run without faults."""
    for kind in world.kinds:
        _check_outputs(world, reference, kind, complete=True)


def check_nothing_wrong(world: World) -> None:
    """What is published is the beginning of what a run without faults publishes."""
    if world.log_truncated:
        return  # what was published of the lost end of the log is no longer in any run
    reference = Reference(world)
    for kind in world.kinds:
        _check_outputs(world, reference, kind, complete=False)


def _check_outputs(world: World, reference: Reference, kind: str, *, complete: bool) -> None:
    place = world.kinds[kind]
    published = []
    for entry in world.places[place].entries:
        if entry is None:
            continue
        if source_of(entry.headers) is not None:
            published.append((source_of(entry.headers), entry.key, entry.value, entry.headers))
        elif kind != "models" or not is_epoch(entry):
            raise Violation(f"{place}, offset {entry.offset}: neither an output nor a code epoch")
    expected = [
        ((output.offset, output.ordinal), output.key, output.value, tuple(headers_of(output)))
        for output in reference.outputs[kind]
    ]
    if not complete:
        expected = expected[: len(published)]
    if published == expected:
        return
    for number, (found, wanted) in enumerate(zip(published, expected, strict=False)):
        if found != wanted:
            raise Violation(
                f"{place}: output {number} is {found}, but a run without faults puts out {wanted}"
            )
    lost = [wanted[0] for wanted in expected[len(published) :]]
    raise Violation(f"{place}: lost are {lost}, too many {[p[0] for p in published[len(expected) :]]}")


def justified_refusal(world: World) -> str | None:
    """Why the next take-over may be refused; None when it must succeed."""
    log = world.log
    if world.log_truncated:
        return "the log was truncated"
    if world.furthest()[0] >= log.end:
        return "offsets have been answered that the log does not have"
    headers = sound_headers(world)
    unusable = {
        name: _unusable(world, name, header) for name, header in headers.items() if header.code == CODE
    }
    if None in unusable.values():
        return None
    changed = [reason for reason in unusable.values() if reason is not None and reason != "trimmed"]
    if changed:
        return changed[0]
    if log.begin > 0:
        return "the log is trimmed and there is no checkpoint"
    for place in world.kinds.values():
        stored = world.places[place]
        if stored.begin > 0 and not any(stored.data(stored.begin)):
            return f"{place} has lost all it held, and no checkpoint knows of it"
    return None


def _unusable(world: World, name: str, header: CheckpointHeader) -> str | None:
    log = world.log
    taken = world.marked_at[world.checkpoints[name]]
    if log.end < header.next_offset:
        return "the log ends before it"
    if log.begin > header.next_offset:
        return "trimmed"
    last = header.next_offset - 1
    entry = log.entries[last] if last >= 0 else None
    if entry is not None and header.last_input and input_hash(entry) != header.last_input:
        return "its last input is another one"
    for kind, place in world.kinds.items():
        stored = world.places[place]
        mark = header.outputs[kind]
        if stored.topic_id != mark.topic_id:
            return f"{place} is another topic"
        if any(at >= taken and end < mark.end for at, end in stored.cuts):
            return f"{place} was cut off below its mark"
        seen = stored.entries[mark.last] if 0 <= mark.last < stored.end else None
        if mark.last >= 0 and (seen is None or source_of(seen.headers) != mark.position):
            return f"{place} was cut off before, which its owner had not noticed"
        if stored.begin > mark.end and not any(stored.data(stored.begin)):
            return f"{place} has lost what came after its mark"
    return None
