"""Runs a peer as a process on a prepared log, measures it, and stops it if it hangs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from select import select
from typing import Any

import msgspec

from driftline.bench.peers.apart import folder
from driftline.streams.declare.topics import TopicSpec


class Limits(msgspec.Struct, frozen=True):
    """Time-outs of a peer in seconds: for reporting its CPU, without a new output, for one round, and from
    SIGTERM to its end."""

    answer: float = 30.0
    stalled: float = 60.0
    round: float = 300.0
    end: float = 10.0


class Assignment(msgspec.Struct, frozen=True):
    """The job of a peer: fold `log` into `predictions` and `outcomes`.

    `durable` says whether a peer's windows live in the framework's own state or in plain memory,
    `feast` whether a driftline worker writes online features too, `exact` whether it writes source
    positions and checkpoints, `metrics` at which address it serves its metrics, `apart` is the package of the
    peer's framework where it is installed apart.
    """

    case: str
    bootstrap: str
    namespace: str
    log: str
    predictions: str
    outcomes: str
    home: str
    durable: bool = True
    feast: bool = False
    exact: bool = True
    metrics: str | None = None
    apart: str = ""

    @classmethod
    def from_arguments(cls) -> Assignment:
        """The assignment on the command line of a peer's process."""
        return msgspec.json.decode(sys.argv[1], type=cls)


class PeerFailed(Exception):
    """A peer failed. The message says what happened and how its log ends."""


def _started(
    module: str, arguments: Sequence[str], *, apart: str = "", **pipes: Any
) -> subprocess.Popen[bytes]:
    """The module in a process group of its own, so that its children can be ended with it."""
    path = [*([str(folder(apart))] if apart else []), *filter(None, sys.path)]
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path)},
        start_new_session=True,
        **pipes,
    )


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process and what it started, at once."""
    with suppress(ProcessLookupError):  # it and all its children have ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Process:
    """A running peer, with its gauge."""

    def __init__(self, module: str, assignment: Assignment, limits: Limits) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._module = module
        self._limits = limits
        self._process = _started(
            module,
            [msgspec.json.encode(assignment).decode()],
            apart=assignment.apart,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            bufsize=0,
            cwd=assignment.home,
        )

    def readings(self) -> dict[str, Any]:
        """The gauge's first and current reading."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(b"?\n")
        except BrokenPipeError:
            raise self.failure("ended") from None
        if not select([self._process.stdout], [], [], self._limits.answer)[0]:
            raise self.failure(f"did not report its CPU within {self._limits.answer:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise self.failure("ended")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def check(self) -> None:
        """Raises PeerFailed when the process has ended."""
        if self._process.poll() is not None:
            raise self.failure(f"ended with {self._process.returncode}")

    def failure(self, what: str) -> PeerFailed:
        """The error to raise, with the end of the process's log."""
        self._stderr.seek(0)
        return PeerFailed(f"{self._module} {what}; its log ends with: {_tail(self._stderr.read())}")

    def stop(self) -> None:
        """End the process with SIGTERM. If it does not end, or children are left, use SIGKILL."""
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(self._limits.end)
        _kill(self._process)
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            if stream is not None:
                stream.close()


@contextmanager
def running(module: str, assignment: Assignment, limits: Limits) -> Iterator[Process]:
    """The peer's process, stopped at the end."""
    process = Process(module, assignment, limits)
    try:
        yield process
    finally:
        process.stop()


def measure(
    module: str, assignment: Assignment, records: int, expected: dict[str, int], limits: Limits
) -> dict[str, Any]:
    """Let a peer fold a log of `records`, until each topic has its `expected` number of outputs.

    CPU is that of the peer's process alone, from its first event to its last output on the broker.
    Raises PeerFailed where the peer ends before, stalls, or is not done within the limits.
    """
    with running(module, assignment, limits) as process:
        await_outputs([process], assignment, expected, limits)
        return figures([process], records)


def figures(processes: Sequence[Process], records: int) -> dict[str, Any]:
    """The CPU and rate of these processes together for `records` of a log, from the first event to now."""
    readings = [process.readings() for process in processes]
    busy = [(reading["first"], reading["now"]) for reading in readings if reading["first"] is not None]
    cpu = sum(now[0] - first[0] for first, now in busy)
    seconds = max(now[1] for _, now in busy) - min(first[1] for first, _ in busy)
    return {
        "cpu_us_per_event": cpu / records * 1e6,
        "events_per_second": records / seconds,
        "seconds": seconds,
    }


def await_outputs(
    processes: Sequence[Process], assignment: Assignment, expected: dict[str, int], limits: Limits
) -> None:
    """Wait until each topic has its `expected` number of outputs; raises PeerFailed where a process ends
    before, nothing comes any more, or the limits are reached."""
    from kafka import KafkaConsumer, TopicPartition

    reader = KafkaConsumer(bootstrap_servers=assignment.bootstrap)
    partitions = {
        topic: [TopicPartition(topic, p) for p in reader.partitions_for_topic(topic)] for topic in expected
    }
    everything = [partition for found in partitions.values() for partition in found]

    def counts() -> dict[str, int]:
        ends = reader.end_offsets(everything)
        return {topic: sum(ends[p] for p in found) for topic, found in partitions.items()}

    try:
        _await_counts(processes, counts, expected, limits)
    finally:
        reader.close()


def _await_counts(
    processes: Sequence[Process], counts: Any, expected: dict[str, int], limits: Limits
) -> None:
    begun = moved = time.monotonic()
    seen = counts()
    while any(seen[topic] < number for topic, number in expected.items()):
        time.sleep(0.02)
        for process in processes:
            process.check()
        before, seen = seen, counts()
        now = time.monotonic()
        if seen != before:
            moved = now
        if now - moved > limits.stalled:
            raise processes[0].failure(
                f"put out {seen} of {expected} and then nothing for {limits.stalled:g} s"
            )
        if now - begun > limits.round:
            raise processes[0].failure(f"put out {seen} of {expected} within {limits.round:g} s")


def call(module: str, *arguments: str, within: float) -> dict[str, Any]:
    """The JSON object that a module prints when run as its own process.

    Raises PeerFailed where it fails, or does not end `within` so many seconds: then it is killed, with the
    processes that it started.
    """
    process = _started(
        module, arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        printed, log = process.communicate(timeout=within)
    except subprocess.TimeoutExpired:
        _kill(process)
        _, log = process.communicate()
        raise PeerFailed(
            f"{module} did not end within {within:g} s; its log ends with: {_tail(log)}"
        ) from None
    finally:
        _kill(process)
    if process.returncode:
        raise PeerFailed(f"{module} ended with {process.returncode}: {_tail(log)}")
    answer: dict[str, Any] = json.loads(printed)
    return answer


def _tail(log: bytes) -> str:
    return log[-1500:].decode(errors="replace").strip()


def topics(assignment: Assignment, partitions: int) -> list[TopicSpec]:
    """The topics of an assignment, with the settings of the case's own topics."""
    config = {"message.timestamp.type": "LogAppendTime"}
    names = (assignment.log, assignment.predictions, assignment.outcomes)
    return [TopicSpec(name, partitions, config) for name in names]


def home(root: Path, name: str) -> str:
    """A folder for the files of one peer."""
    folder = root / name
    folder.mkdir(parents=True)
    return str(folder)
