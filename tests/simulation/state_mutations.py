"""What the fold keeps and restores, broken on purpose: the simulation must notice each."""

from __future__ import annotations

from driftline.features.state import feature_state
from driftline.online_models.pool import pool, roster
from driftline.streams.fold import intake, processor
from tests.simulation.mutation import mutation

OF_THE_STATE = (
    mutation(
        "the fold begins one record after the checkpoint",
        processor,
        "PartitionProcessor.restore",
        "self.next_offset = state.next_offset",
        "self.next_offset = state.next_offset + 1",
    ),
    mutation(
        "the models of a checkpoint are not restored",
        processor,
        "PartitionProcessor.restore",
        "    self.learner.restore(state.learner)\n",
        "",
    ),
    mutation(
        "windows of a checkpoint are not restored",
        intake,
        "Intake.restore",
        "    self._features.restore(state.features)\n",
        "",
    ),
    mutation(
        "predictions of a checkpoint that wait for labels are not restored",
        intake,
        "Intake.restore",
        "    self.label_join.restore(state.pending)\n",
        "",
    ),
    mutation(
        "time and counts of a checkpoint are not restored",
        intake,
        "Intake.restore",
        "    self._s = state.own\n",
        "",
    ),
    mutation(
        "ids of events before a checkpoint are not restored",
        intake,
        "Intake.restore",
        "    self._seen = SeenEvents.again(state.seen, self._store)\n",
        "",
    ),
    mutation(
        "a step of the fold forgets its last record",
        processor,
        "PartitionProcessor.step",
        "self.intake.fold(records, out, answered)",
        "self.intake.fold(records[:-1] or records, out, answered)",
    ),
    mutation(
        "promotions are not restored",
        roster,
        "Roster.restore",
        "    self.state = state\n",
        "    self.state.requests = state.requests\n",
    ),
    mutation(
        "estimators of a checkpoint are not restored",
        roster,
        "Roster.restore",
        "        seat.state = saved\n",
        "",
    ),
    mutation(
        "what a pool has learned through is not restored",
        pool,
        "Pool.restore",
        "    self._state = msgspec.structs.replace(state, drift=None, intervals=None)\n",
        "    self._state.last_resort = state.last_resort\n",
    ),
    mutation(
        "commands obeyed before a checkpoint are obeyed again",
        intake,
        "Intake.restore",
        "    self._authority.restore(state.authority)\n",
        "",
    ),
    mutation(
        "values outside of their range before a checkpoint are reported again",
        feature_state,
        "FeatureState.restore",
        "    self._ranges.restore(state.ranges)\n",
        "",
    ),
    mutation(
        "references of a checkpoint are not restored",
        feature_state,
        "FeatureState.restore",
        "        references.restore(known)\n",
        "        pass\n",
    ),
    mutation(
        "stamps of online rows are not restored",
        feature_state,
        "FeatureState.restore",
        "            view.state = state.views[view.name]\n",
        "            pass\n",
    ),
    mutation(
        "a step answers all of its requests before it learns",
        processor,
        "PartitionProcessor.step",
        "        self.learner.fold(work)\n",
        "        self.learner.fold(sorted(work, key=lambda one: type(one[0]).__name__ != 'Question'))\n",
    ),
)
