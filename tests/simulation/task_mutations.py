"""What the task of a partition does, broken on purpose: the simulation must notice each."""

from __future__ import annotations

from driftline.streams.owner import partition_task, retry_pause, standstill
from tests.simulation.mutation import mutation

OF_THE_TASK = (
    mutation(
        "records whose outputs are acknowledged are not",
        partition_task,
        "PartitionTask._own",
        "owned.on_acknowledged = self._answered",
        "pass",
    ),
    mutation(
        "a fenced partition is given up without a word",
        partition_task,
        "PartitionTask._run",
        "pause = pause_after(error)\n",
        "pause = pause_after(error)\n"
        "            if type(error).__name__ == 'Fenced':\n"
        "                return\n",
    ),
    mutation(
        "what is refused is taken over again",
        retry_pause,
        "pause_after",
        "    if isinstance(error, StreamsError):\n        return None\n",
        "    if isinstance(error, StreamsError):\n        return RETRY_AFTER\n",
        "lose_power",
    ),
    mutation(
        "an outage of the broker refuses the partition",
        retry_pause,
        "pause_after",
        "RETRY_AFTER if is_broker_trouble(error) else None",
        "None",
    ),
    mutation(
        "the first records handed over count as all since the log's start",
        partition_task,
        "PartitionTask._serve",
        "records[0].offset if begin is None else begin",
        "begin or 0",
    ),
    mutation(
        "a state that was held is used again after it was folded on",
        partition_task,
        "PartitionTask._own",
        "    held, self._held = self._held, None\n",
        "    held = self._held\n",
    ),
    mutation(
        "a state is given back though it is not whole",
        partition_task,
        "PartitionTask.stop",
        "if owned.is_whole else None",
        "if True else None",
        "abandon",
    ),
    mutation(
        "a task that does not end in time goes on",
        partition_task,
        "PartitionTask.stop",
        "            task.cancel()\n            await asyncio.wait([task])\n",
        "            pass\n",
        "pause",
    ),
    mutation(
        "nobody looks at the broker while records come",
        partition_task,
        "PartitionTask.tick",
        "now - self._looked > LOOK_EVERY",
        "False",
        "deafen",
    ),
    mutation(
        "topics that are others now are seen and served on",
        partition_task,
        "PartitionTask._look",
        "if outdated and owned is self._owned:",
        "if False:",
        "remake_output",
    ),
    mutation(
        "a standstill is not reported",
        standstill,
        "Standstill.look",
        "if seconds > ",
        "if 0.0 > ",
        "deafen",
    ),
    mutation(
        "a task does not see that the online store has lost rows",
        partition_task,
        "PartitionTask.tick",
        "and owned.owes_rows",
        "and False",
        "lose_rows",
    ),
    mutation(
        "a checkpoint is taken while outputs are on their way",
        partition_task,
        "PartitionTask._taken_in",
        "        await owned.settled()\n",
        "",
    ),
    mutation(
        "a partition counts as idle though outputs are on their way",
        partition_task,
        "PartitionTask.tick",
        "self._idle",
        "self._waits",
    ),
    mutation(
        "a partition is set down while outputs are on their way",
        partition_task,
        "PartitionTask._serve",
        "    await owned.settled()\n",
        "",
    ),
)
