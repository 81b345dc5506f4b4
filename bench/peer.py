"""Runs a peer as its own process on a prepared log and measures it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from select import select
from typing import Any

import msgspec

from driftline.streams.declare.topics import TopicSpec

ANSWERS_WITHIN = 30.0
STALLED = 60.0
"""Seconds without a new output after which a peer is given up."""


class Assignment(msgspec.Struct, frozen=True):
    """What a peer is to do: fold `log` into `predictions` and `outcomes`.

    `durable` says whether a peer's windows live in the framework's own state or in plain memory,
    `feast` whether a driftline worker writes online features too, `exact` whether it writes source
    positions and checkpoints.
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

    @classmethod
    def from_arguments(cls) -> Assignment:
        """The assignment on the command line of a peer's process."""
        return msgspec.json.decode(sys.argv[1], type=cls)


class PeerFailed(Exception):
    """A peer did not do its job; the message says what was seen and how its log ends."""


class Process:
    """A peer at work, with its gauge."""

    def __init__(self, module: str, assignment: Assignment) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._module = module
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, msgspec.json.encode(assignment).decode()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            bufsize=0,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            cwd=assignment.home,
        )

    def readings(self) -> dict[str, Any]:
        """The gauge's first and present reading."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"?\n")
        if not select([self._process.stdout], [], [], ANSWERS_WITHIN)[0]:
            raise self.failure(f"did not tell its CPU within {ANSWERS_WITHIN:g} s")
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
        tail = self._stderr.read()[-1500:].decode(errors="replace")
        return PeerFailed(f"{self._module} {what}; its log ends with: {tail}")

    def stop(self) -> None:
        """End the process."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._stderr):
            if stream is not None:
                stream.close()


@contextmanager
def running(module: str, assignment: Assignment) -> Iterator[Process]:
    """The peer's process, stopped at the end."""
    process = Process(module, assignment)
    try:
        yield process
    finally:
        process.stop()


def measure(module: str, assignment: Assignment, records: int, expected: dict[str, int]) -> dict[str, Any]:
    """Let a peer fold a log of `records`, until each topic has its `expected` number of outputs.

    CPU is that of the peer's process alone, from its first event to its last output on the broker.
    """
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
        with running(module, assignment) as process:
            seen, moved = counts(), time.monotonic()
            while any(seen[topic] < number for topic, number in expected.items()):
                time.sleep(0.02)
                process.check()
                before, seen = seen, counts()
                if seen != before:
                    moved = time.monotonic()
                elif time.monotonic() - moved > STALLED:
                    raise process.failure(f"put out {seen} of {expected} and then nothing for {STALLED:g} s")
            readings = process.readings()
    finally:
        reader.close()
    first, now = readings["first"], readings["now"]
    cpu, seconds = now[0] - first[0], now[1] - first[1]
    return {
        "cpu_us_per_event": cpu / records * 1e6,
        "events_per_second": records / seconds,
        "seconds": seconds,
    }


def call(module: str, *arguments: str) -> dict[str, Any]:
    """The JSON object that a module prints when run as its own process."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    )
    if done.returncode:
        raise PeerFailed(
            f"{module} ended with {done.returncode}: {done.stderr[-1500:].decode(errors='replace')}"
        )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def topics(assignment: Assignment, partitions: int) -> list[TopicSpec]:
    """The topics of an assignment, set up as the case's own are."""
    config = {"message.timestamp.type": "LogAppendTime"}
    names = (assignment.log, assignment.predictions, assignment.outcomes)
    return [TopicSpec(name, partitions, config) for name in names]


def home(root: Path, name: str) -> str:
    """A folder of its own for a peer's files."""
    folder = root / name
    folder.mkdir(parents=True)
    return str(folder)
