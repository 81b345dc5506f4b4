"""What is broken on purpose in a chain: the simulation must notice each."""

from __future__ import annotations

from driftline.streams.between import activations, sender, writers
from driftline.streams.owner import deployment, outbox, owned_partition, partition_task
from driftline.streams.records import outputs
from driftline.streams.stages import last_stage, places, replica_stage, stage_fold
from tests.simulation.chains.group import Focus
from tests.simulation.chains.run import run
from tests.simulation.mutation import Change
from tests.simulation.mutations import OF_THE_ORDER
from tests.simulation.run import Verdict

OF_AN_OWNER = (
    "a send follows a failed one",
    "the state counts as whole before its outputs are acknowledged",
    "a batch goes out before the one before it is acknowledged",
    "what is missing before the records handed over is not folded",
)
"""Orders that the owner of a stage keeps as the owner of a log does."""

MUTATIONS = {
    **{one.name: one.change for one in OF_THE_ORDER if one.name in OF_AN_OWNER},
    "a reader does not drop repeats": Change(
        writers, "Writers.take", "if record.number <= last.records:", "if False:"
    ),
    "a writer starts past what is acknowledged: a checkpoint does not wait for its sends": Change(
        partition_task, "PartitionTask._taken_in", "        await owned.settled()\n", ""
    ),
    "what was sent before is not sent again where an output has a tail": Change(
        outbox,
        "Outbox.send",
        "if out.sends:",
        "if out.sends and next_offset > self._tails['dead_letters'][0]:",
    ),
    "what is sent goes out in another order": Change(
        outbox, "Outbox._by_place", "for target, value in sends:", "for target, value in reversed(sends):"
    ),
    "of what is sent, the last record is left out": Change(
        outbox, "Outbox._by_place", "for target, value in sends:", "for target, value in sends[:-1] or sends:"
    ),
    "what is sent of a batch is left out when it waits": Change(
        outputs, "Outputs.extend", "self.sends.extend(later.sends)", "pass"
    ),
    "the watermark of a stage is the largest of its writers": Change(
        writers, "Writers.take", "self.watermark = min(", "self.watermark = max("
    ),
    "a tick tells a watermark that is too large": Change(
        sender,
        "Sender.end",
        '            self._append(target, b"", {}, None)\n',
        '            self._watermark += 4000.0\n            self._append(target, b"", {}, None)\n',
    ),
    "the checkpoints of two stages are mixed up": Change(
        places, "StagePlaces.folder", "if target.stage else", "if False else"
    ),
    "the newest record of a writer is taken once more when it is repeated": Change(
        writers, "Writers.take", "if record.number <= last.records:", "if record.number < last.records:"
    ),
    "the watermark of a stage is not restored with what it has heard": Change(
        writers,
        "Writers.restore",
        "    self.watermark = min(heard.watermark for heard in state.values())\n",
        "",
    ),
    "what a stage has heard of its writers is not restored": Change(
        writers, "Writers.restore", "    self._heard = state\n", ""
    ),
    "what a stage has sent to others is not restored": Change(
        sender, "Sender.restore", "    self._sent_watermarks, self._counts = state\n", ""
    ),
    "the work of a stage is not restored": Change(
        stage_fold, "StageFold.restore", "    self.work.restore(state.work)\n", ""
    ),
    "a stage's fold begins one record after the checkpoint": Change(
        stage_fold, "StageFold.restore", "= state.next_offset", "= state.next_offset + 1"
    ),
    "dead letters of all stages go to the same partitions": Change(
        places, "StagePlaces.outputs", 'if kind == "dead_letters" else', "if False else"
    ),
    "all partitions of a number fence each other": Change(
        deployment,
        "Deployment.owner",
        "self.places.kind(self.stage)",
        '"events"',
    ),
    "an activation before its pool: a replica goes on when the first part is there": Change(
        activations,
        "Activations.take",
        "    parts[part.index] = part\n",
        "    parts[part.index] = part\n    self.taken = model_record.number\n",
    ),
    "a pool that a replica has taken is taken again when it comes once more": Change(
        activations, "Activations.take", "if model_record.number <= self.taken:", "if False:"
    ),
    "how old the pool of a replica is is not restored": Change(
        replica_stage, "ReplicaStage.restore", "    self._pool.at = state.pool_at\n", ""
    ),
    "what a replica was sent of pools is not restored": Change(
        replica_stage, "ReplicaStage.restore", "    self._activations.restore(state.activations)\n", ""
    ),
    "the pool of a replica is not restored": Change(
        replica_stage, "ReplicaStage.restore", "    self._pool.restore(state.pool)\n", ""
    ),
    "what a learner has published is not restored": Change(
        last_stage, "LastStage.restore", "self._publication.restore(state.published)", "pass"
    ),
    "online rows of a stage are not offered": Change(
        owned_partition, "OwnedPartition._publish", "await self._offer_rows(folded.out.rows)", "pass"
    ),
}


FOCUSES: dict[str, Focus] = {
    "a writer starts past what is acknowledged: a checkpoint does not wait for its sends": "crash",
    "the checkpoints of two stages are mixed up": "trim",
    "what was sent before is not sent again where an output has a tail": "refused",
}
"""The fault that it takes to notice some of them soon."""


def first_caught(name: str, seeds: range) -> Verdict | None:
    """The first seed that shows a mutation; None when none does."""
    focus = FOCUSES.get(name)
    with MUTATIONS[name].applied():
        verdicts = (run(seed, focus) for seed in seeds)
        return next((verdict for verdict in verdicts if verdict.violation is not None), None)
