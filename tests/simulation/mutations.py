"""Orders of effects, broken on purpose: the simulation must notice each."""

from __future__ import annotations

from driftline.streams.checkpoints import sealing, tails
from driftline.streams.owner import outbox, send_queue, starting_point, takeover
from driftline.streams.owner import owned_partition as ownership
from tests.simulation.mutation import mutation
from tests.simulation.state_mutations import OF_THE_STATE
from tests.simulation.task_mutations import OF_THE_TASK

_LATE_FENCE = """
    class LateFence:
        appender = None

        async def append(self, batches):
            if self.appender is None:
                self.appender = await deployment.broker.fence(deployment.owner(partition), written)
            return await self.appender.append(batches)

        async def close(self):
            return None

    appender = LateFence()
"""

_UNHEARD = """
            async def unheard(publishing):
                try:
                    await publishing
                except Exception:
                    return

            asyncio.create_task(unheard(self._publish(_together(self._taken()))))
"""

_APPENDED = "ends = await appender.append(batches)\n"


OF_THE_ORDER = (
    mutation(
        "no fence",
        takeover,
        "take_over",
        "deployment.broker.fence(deployment.owner(partition), written)",
        "deployment.broker.fence(deployment.owner(partition), [])",
    ),
    mutation(
        "only the models topic is fenced",
        takeover,
        "take_over",
        "deployment.broker.fence(deployment.owner(partition), written)",
        'deployment.broker.fence(deployment.owner(partition), [places["models"]])',
    ),
    mutation(
        "the fence comes after the tails are read",
        takeover,
        "take_over",
        "    appender = await deployment.broker.fence(deployment.owner(partition), written)\n",
        _LATE_FENCE,
    ),
    mutation(
        "tails are not read",
        tails,
        "read_tail",
        "    if known is not None:\n",
        "    if True:\n        return Tail(NOTHING, -1, None)\n    if known is not None:\n",
    ),
    mutation(
        "a send follows a failed one",
        outbox,
        "Outbox.send",
        f"    async with self._appending() as appender:\n        {_APPENDED}",
        "    appender = self._appender\n"
        f"    try:\n        {_APPENDED}    except AppendFailed:\n        return\n",
    ),
    mutation(
        "a checkpoint does not wait for the online rows",
        ownership,
        "OwnedPartition._finished",
        "await rows.written(snapshot.ticket)",
        "pass",
        "crash",
    ),
    mutation(
        "the tail is what lies at end - 1",
        tails,
        "_last_output",
        "    high = end\n",
        "    high = end\n    begin = max(begin, end - 1)\n",
    ),
    mutation(
        "the checkpoint's tail counts although newer outputs are there",
        tails,
        "_tail_beyond",
        "    # the markers of later fences",
        "    return Tail(known.position, known.last, None)\n    # the markers of later fences",
    ),
    mutation(
        "the last input is not compared",
        starting_point,
        "_check_log",
        "if header.last_input and last >= extent.begin:",
        "if False:",
        "lose_inputs",
    ),
    mutation(
        "a topic that was recreated is taken for the old one",
        tails,
        "_tail_beyond",
        "    if extent.topic_id != known.topic_id:\n",
        "    if extent.topic_id != known.topic_id:\n"
        "        return Tail(known.position, known.last, None)\n"
        "    if False:\n",
        "remake_output",
    ),
    mutation(
        "truncated outputs are not looked for",
        tails,
        "_tail_beyond",
        "if position < known.position or (record is None and extent.begin <= known.last):",
        "if False:",
        "truncate_outputs",
    ),
    mutation(
        "a log that ends before what was answered is accepted",
        takeover,
        "_resume",
        "if furthest - first >= extent.end:",
        "if False:",
        "lose_power",
    ),
    mutation(
        "what is missing before the records handed over is not folded",
        ownership,
        "OwnedPartition.advance",
        "if first > folded and (begin > folded or await self._deleted(folded)):",
        "if False:",
    ),
    mutation(
        "records handed over again are folded again",
        ownership,
        "OwnedPartition.advance",
        "[record for record in records if record.offset >= folded]",
        "list(records)",
    ),
    mutation(
        "torn and altered checkpoints are accepted",
        sealing,
        "Seal.open",
        "    if len(payload) != length:\n",
        "    if True:\n        return bytes(payload)\n    if len(payload) != length:\n",
    ),
    mutation(
        "what was published is not proved",
        takeover,
        "_unproved",
        "and tail.position[0] >= folded",
        "and False",
        "lose_power",
    ),
    mutation(
        "what was published is not proved at the log's end",
        ownership,
        "OwnedPartition.recover",
        "self._outbox.prove_all(self._position(self._log.end))",
        "pass",
        "lose_inputs",
    ),
    mutation(
        "a code epoch announced again calls what is published another code's",
        takeover,
        "_resume",
        "extent, before, furthest, legacy)",
        "extent, outbox.tails, furthest, legacy)",
        "lose_power",
    ),
    mutation(
        "the state counts as whole before its outputs are acknowledged",
        ownership,
        "OwnedPartition.fold",
        "Folded(out, piece[0].offset, piece[-1], self.processor.next_offset))\n",
        "Folded(out, piece[0].offset, piece[-1], self.processor.next_offset, 0))\n"
        "        self._unacknowledged -= 1\n",
        "abandon",
    ),
    mutation(
        "what waits goes out in another order",
        send_queue,
        "_together",
        "        first.out.extend(later.out)\n",
        "        later.out.extend(first.out)\n        first.out = later.out\n",
    ),
    mutation(
        "of what waits only the newest goes out",
        send_queue,
        "SendQueue._taken",
        "return taken",
        "return taken[-1:]",
    ),
    mutation(
        "a batch goes out before the one before it is acknowledged",
        send_queue,
        "SendQueue._send",
        "await self._publish(_together(self._taken()))",
        _UNHEARD,
    ),
    mutation(
        "ordinals are not compared",
        outbox,
        "Outbox._beyond",
        "[output for output in outputs if (output.offset, output.ordinal) > tail]",
        "[output for output in outputs if output.offset > tail[0]]",
    ),
    mutation(
        "deleted outputs that nobody knows of count as none",
        tails,
        "read_tail",
        "if extent.begin > 0:",
        "if False:",
        "trim_outputs",
    ),
    mutation(
        "outputs deleted after the checkpoint count as none",
        tails,
        "_tail_beyond",
        "if extent.begin > known.end:",
        "if False:",
        "trim_outputs",
    ),
    mutation(
        "a take-over refuses what a newer owner has left",
        takeover,
        "take_over",
        "if await _changed_hands(deployment, partition, extents):",
        "if False:",
        "pause",
    ),
    mutation(
        "the last record before what is handed over is not caught up with",
        ownership,
        "OwnedPartition._catch_up",
        "self.processor.next_offset, until)",
        "self.processor.next_offset, until - 1)",
    ),
    mutation(
        "online rows are not offered while the log is folded again",
        ownership,
        "OwnedPartition._publish",
        "await self._offer_rows(folded.out.rows)",
        "await self._offer_rows(folded.out.rows if self.progress.done else {})",
        "crash",
    ),
    mutation(
        "a checkpoint's last input is the first of what was folded with it",
        ownership,
        "OwnedPartition.fold",
        "self._last = piece[-1]",
        "self._last = piece[0]",
    ),
    mutation(
        "the first output of a piece counts as its last",
        tails,
        "_last_output",
        "last = record",
        "last = last or record",
    ),
    mutation(
        "a code epoch counts as somebody else's record",
        tails,
        "_last_output",
        "elif not is_epoch(record):",
        "else:",
    ),
    mutation(
        "what was published is called different before the fold has come to it",
        outbox,
        "Outbox._prove",
        "if next_offset > tail[0]:",
        "if True:",
        "remove",
    ),
    mutation(
        "a mark forgets the output that it saw last",
        outbox,
        "Outbox.send",
        "self._tails[kind], end - 1)",
        "self._tails[kind], self._marks[kind].last)",
        "truncate_outputs",
    ),
    mutation(
        "a code epoch moves the tail",
        outbox,
        "Outbox.announce",
        "    self._marks[kind] = OutputMark(mark.topic_id, end, self._tails[kind], mark.last)\n",
        "    self._tails[kind] = (record.offset, record.ordinal)\n"
        "    self._marks[kind] = OutputMark(mark.topic_id, end, self._tails[kind], end - 1)\n",
    ),
    mutation(
        "what is offered again begins after the tail's own record",
        outbox,
        "Outbox._beyond",
        "> tail]",
        ">= tail]",
    ),
    mutation(
        "other code is not refused",
        takeover,
        "_epochs_of_this_code",
        "if announced else None",
        "if False else None",
    ),
    mutation(
        "a log that ends before the checkpoint fits it",
        starting_point,
        "_check_log",
        "if extent.end < header.next_offset:",
        "if False:",
        "lose_power",
    ),
    mutation(
        "a log that was trimmed is folded from where it begins",
        starting_point,
        "_from_the_start",
        "if extents[place].begin > 0:",
        "if False:",
        "trim_log",
    ),
    mutation(
        "topics that were recreated are the same",
        ownership,
        "OwnedPartition.has_other_topics",
        "!= topic_id for",
        "!= shapes[name].topic_id for",
        "remake_output",
    ),
    mutation(
        "rows that the online store has lost are not put again",
        ownership,
        "OwnedPartition._offer_lost_rows",
        "await rows.offer(some)",
        "pass",
        "lose_rows",
    ),
    mutation(
        "every checkpoint's rows are held to be in the online store as it is now",
        ownership,
        "OwnedPartition.__init__",
        "self._rows_in = header.rows_in",
        "self._rows_in = self._incarnation",
        "lose_rows",
    ),
)

MUTATIONS = (*OF_THE_ORDER, *OF_THE_TASK, *OF_THE_STATE)
