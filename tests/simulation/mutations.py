"""Orders of effects, broken on purpose: the simulation must notice each.

A mutation replaces text in the source of one function under test and puts the changed function in its
place. Text that is no longer there is an error: the mutation has to follow the code.
"""

from __future__ import annotations

import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from driftline.streams.checkpoints import sealing, tails
from driftline.streams.fold import intake as intake
from driftline.streams.fold import processor
from driftline.streams.owner import outbox, starting_point, takeover
from driftline.streams.owner import owned_partition as ownership
from tests.simulation import world
from tests.simulation.chaos import Focus
from tests.simulation.run import Verdict, run


@dataclass(frozen=True, slots=True)
class Change:
    """In the function at `path` of a module, the text `before` becomes `after`."""

    module: ModuleType
    path: str
    before: str
    after: str

    def _owner(self) -> tuple[Any, str]:
        owner: Any = self.module
        *parents, name = self.path.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        return owner, name

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The changed function in the place of the real one, in every module that has imported it."""
        owner, name = self._owner()
        original = getattr(owner, name)
        source = textwrap.dedent(inspect.getsource(original))
        if source.count(self.before) != 1:
            raise LookupError(f"{self.path} has {source.count(self.before)} times the text {self.before!r}")
        namespace: dict[str, Any] = {}
        code = "from __future__ import annotations\n" + source.replace(self.before, self.after)
        exec(compile(code, f"<mutated {self.path}>", "exec"), self.module.__dict__, namespace)
        holders = [owner] if owner is not self.module else _importers(name, original)
        try:
            for holder in holders:
                setattr(holder, name, namespace[name])
            yield
        finally:
            for holder in holders:
                setattr(holder, name, original)


def _importers(name: str, function: Any) -> list[Any]:
    ours = ("driftline.streams.", "tests.simulation.")
    found = [
        module
        for key, module in sys.modules.items()
        if key.startswith(ours) and getattr(module, name, None) is function
    ]
    if not found:
        raise LookupError(f"no module has {name}: its change would change nothing")
    return found


@dataclass(frozen=True, slots=True)
class Mutation:
    """One broken order of effects."""

    name: str
    change: Change
    focus: Focus | None = None
    """The fault that it takes to notice."""


def _mutation(
    name: str, module: ModuleType, path: str, before: str, after: str, focus: Focus | None = None
) -> Mutation:
    return Mutation(name, Change(module, path, before, after), focus)


_LATE_FENCE = """
    class LateFence:
        appender = None

        async def append(self, batches):
            if self.appender is None:
                self.appender = await deployment.broker.fence(
                    deployment.owner(partition), list(places.values())
                )
            return await self.appender.append(batches)

        async def close(self):
            return None

    appender = LateFence()
"""

_APPENDED = "ends = await appender.append({self._places[kind]: outputs for kind, outputs in fresh.items()})\n"

MUTATIONS = (
    _mutation(
        "no fence", world, "StoredPlace.fence", "self.epoch = epoch", "self.epoch = max(self.epoch, 0)"
    ),
    _mutation(
        "the fence comes after the tails are read",
        takeover,
        "take_over",
        "    appender = await deployment.broker.fence(deployment.owner(partition), list(places.values()))\n",
        _LATE_FENCE,
    ),
    _mutation(
        "tails are not read",
        tails,
        "read_tail",
        "    if known is not None:\n",
        "    if True:\n        return Tail(NOTHING, -1, None)\n    if known is not None:\n",
    ),
    _mutation(
        "a send follows a failed one",
        outbox,
        "Outbox.send",
        f"    async with self._appending() as appender:\n        {_APPENDED}",
        "    appender = self._appender\n"
        f"    try:\n        {_APPENDED}    except AppendFailed:\n        return\n",
    ),
    _mutation(
        "a checkpoint is stored before the outputs are sent",
        ownership,
        "OwnedPartition._fold",
        "    await self._outbox.send(out, self.processor.next_offset)\n",
        "    early = self.snapshot()\n"
        "    if early is not None:\n"
        "        await self.store(early)\n"
        "    await self._outbox.send(out, self.processor.next_offset)\n",
    ),
    _mutation(
        "a checkpoint does not wait for the online rows",
        ownership,
        "OwnedPartition._finished",
        "await rows.written(snapshot.ticket)",
        "pass",
        "crash",
    ),
    _mutation(
        "the tail is what lies at end - 1",
        tails,
        "_last_output",
        "    high = end\n",
        "    high = end\n    begin = max(begin, end - 1)\n",
    ),
    _mutation(
        "the checkpoint's tail counts although newer outputs are there",
        tails,
        "_tail_beyond",
        "    # the markers of later fences",
        "    return Tail(known.position, known.last, None)\n    # the markers of later fences",
    ),
    _mutation(
        "the last input is not compared",
        starting_point,
        "_check_log",
        "if header.last_input and last >= extent.begin:",
        "if False:",
        "lose_inputs",
    ),
    _mutation(
        "a topic that was made anew is taken for the old one",
        tails,
        "_tail_beyond",
        "    if extent.topic_id != known.topic_id:\n",
        "    if extent.topic_id != known.topic_id:\n"
        "        return Tail(known.position, known.last, None)\n"
        "    if False:\n",
        "remake_output",
    ),
    _mutation(
        "truncated outputs are not looked for",
        tails,
        "_tail_beyond",
        "if position < known.position or (record is None and extent.begin <= known.last):",
        "if False:",
        "truncate_outputs",
    ),
    _mutation(
        "a log that ends before what was answered is accepted",
        takeover,
        "_resume",
        "if furthest >= extent.end:",
        "if False:",
        "lose_power",
    ),
    _mutation(
        "what is missing before the records handed over is not folded",
        ownership,
        "OwnedPartition.advance",
        "if first > folded and (begin > folded or await self._deleted(folded)):",
        "if False:",
    ),
    _mutation(
        "records handed over again are folded again",
        ownership,
        "OwnedPartition.advance",
        "[record for record in records if record.offset >= folded]",
        "list(records)",
    ),
    _mutation(
        "torn and altered checkpoints are accepted",
        sealing,
        "Seal.open",
        "    if len(payload) != length:\n",
        "    if True:\n        return bytes(payload)\n    if len(payload) != length:\n",
    ),
    _mutation(
        "what was published is not proved",
        takeover,
        "_unproved",
        "and tail.position[0] >= folded",
        "and False",
        "lose_power",
    ),
    _mutation(
        "what was published is not proved at the log's end",
        ownership,
        "OwnedPartition.recover",
        "self._outbox.prove_all(self._log.end)",
        "pass",
        "lose_inputs",
    ),
    _mutation(
        "a code epoch announced again calls what is published another code's",
        takeover,
        "_resume",
        "tails_of(before))",
        "tails_of(outbox.tails))",
        "lose_power",
    ),
    _mutation(
        "the state counts as whole before its outputs are acknowledged",
        ownership,
        "OwnedPartition._fold",
        "    self._all_acknowledged = False\n",
        "    self._all_acknowledged = True\n",
        "abandon",
    ),
    _mutation(
        "ordinals are not compared",
        outbox,
        "Outbox._beyond",
        "[output for output in outputs if (output.offset, output.ordinal) > tail]",
        "[output for output in outputs if output.offset > tail[0]]",
    ),
    _mutation(
        "deleted outputs that nobody knows of count as none",
        tails,
        "read_tail",
        "if extent.begin > 0:",
        "if False:",
        "trim_outputs",
    ),
    _mutation(
        "outputs deleted after the checkpoint count as none",
        tails,
        "_tail_beyond",
        "if extent.begin > known.end:",
        "if False:",
        "trim_outputs",
    ),
    _mutation(
        "a take-over refuses what a newer owner has left",
        takeover,
        "take_over",
        "if await _changed_hands(deployment, partition, extents):",
        "if False:",
        "pause",
    ),
    _mutation(
        "the last record before what is handed over is not caught up with",
        ownership,
        "OwnedPartition._catch_up",
        "self.processor.next_offset, until)",
        "self.processor.next_offset, until - 1)",
    ),
    _mutation(
        "online rows are not offered while the log is folded again",
        ownership,
        "OwnedPartition._fold",
        "await self._offer_rows(out.rows)",
        "await self._offer_rows(out.rows if self.progress.done else {})",
        "crash",
    ),
    _mutation(
        "a checkpoint's last input is the first of what was folded with it",
        ownership,
        "OwnedPartition._fold",
        "self._last = records[-1]",
        "self._last = records[0]",
    ),
    _mutation(
        "the first output of a piece counts as its last",
        tails,
        "_last_output",
        "last = record",
        "last = last or record",
    ),
    _mutation(
        "a code epoch counts as somebody else's record",
        tails,
        "_last_output",
        "elif not is_epoch(record):",
        "else:",
    ),
    _mutation(
        "what was published is called different before the fold has come to it",
        outbox,
        "Outbox._prove",
        "if next_offset > tail[0]:",
        "if True:",
        "remove",
    ),
    _mutation(
        "a mark forgets the output that it saw last",
        outbox,
        "Outbox.send",
        "self._tails[kind], end - 1)",
        "self._tails[kind], self._marks[kind].last)",
    ),
    _mutation(
        "a code epoch moves the tail",
        outbox,
        "Outbox.announce",
        "    self._marks[kind] = OutputMark(mark.topic_id, end, self._tails[kind], mark.last)\n",
        "    self._tails[kind] = (record.offset, record.ordinal)\n"
        "    self._marks[kind] = OutputMark(mark.topic_id, end, self._tails[kind], end - 1)\n",
    ),
    _mutation(
        "what is offered again begins after the tail's own record",
        outbox,
        "Outbox._beyond",
        "> tail]",
        ">= tail]",
    ),
    _mutation(
        "the fold begins one record after the checkpoint",
        processor,
        "PartitionProcessor.restore",
        "self.next_offset = state.next_offset",
        "self.next_offset = state.next_offset + 1",
    ),
    _mutation(
        "the models of a checkpoint are not restored",
        processor,
        "PartitionProcessor.restore",
        "    self.learner.restore(state.learner)\n",
        "",
    ),
    _mutation(
        "windows of a checkpoint are not restored",
        intake,
        "Intake.restore",
        "    self._features.restore(state.features)\n",
        "",
    ),
    _mutation(
        "predictions of a checkpoint that wait for labels are not restored",
        intake,
        "Intake.restore",
        "    self.label_join.restore(state.pending)\n",
        "",
    ),
    _mutation(
        "time and counts of a checkpoint are not restored",
        intake,
        "Intake.restore",
        "    self._s = state.own\n",
        "",
    ),
    _mutation(
        "a step of the fold forgets its last record",
        processor,
        "PartitionProcessor.step",
        "self.intake.fold(records, out, answered)",
        "self.intake.fold(records[:-1] or records, out, answered)",
    ),
    _mutation(
        "other code is not refused",
        takeover,
        "_epochs_of_this_code",
        "if found else None",
        "if False else None",
    ),
    _mutation(
        "a log that ends before the checkpoint fits it",
        starting_point,
        "_check_log",
        "if extent.end < header.next_offset:",
        "if False:",
        "lose_power",
    ),
)


def first_caught(mutation: Mutation, seeds: range) -> Verdict | None:
    """The first seed that shows the mutation; None when none does."""
    with mutation.change.applied():
        verdicts = (run(seed, mutation.focus) for seed in seeds)
        return next((verdict for verdict in verdicts if verdict.violation is not None), None)
