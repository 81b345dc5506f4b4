"""What a simulation published: written to a file, and the records that it refused, by reason."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Self

import msgspec

from driftline.infra.errors import InfraError
from driftline.streams.declare.usecase import UseCase
from driftline.streams.offline.training_set import Served
from driftline.streams.records.messages import Outcome, Prediction
from driftline.streams.records.outputs import Outputs
from driftline.streams.records.positions import header_texts

PREDICTION_SUFFIXES = (".jsonl", ".parquet")


class RefusedRecords(msgspec.Struct):
    """Dead letters of one stage: how many, and the place and reason of the first."""

    count: int
    partition: int
    offset: int
    reason: str


class SimulatedOutputs:
    """Takes a simulation's outputs; a context, at whose end the file `out` is complete.

    A .jsonl file has the predictions as published, a line each; a .parquet file has a row each, with its
    features and label, as `driftline features served` writes them. Raises InfraError for another name.
    """

    def __init__(self, case: UseCase, out: Path | None = None) -> None:
        if out is not None and out.suffix not in PREDICTION_SUFFIXES:
            raise InfraError(
                f"{out}: predictions can be written to a {' or '.join(PREDICTION_SUFFIXES)} file"
            )
        self._case = case
        self._out = out
        self._stack = ExitStack()
        self._lines: IO[bytes] | None = None
        self._served: list[Served] = []
        self._outcomes: dict[str, Outcome] = {}
        self.refused: dict[str, RefusedRecords] = {}
        """Dead letters by stage."""

    def __enter__(self) -> Self:
        if self._out is not None and self._out.suffix == ".jsonl":
            self._lines = self._stack.enter_context(self._out.open("wb"))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stack.close()
        if kind is None and self._out is not None and self._lines is None:
            from driftline.infra.offline.training_set import write_table
            from driftline.streams.offline.training_set import training_log

            write_table(training_log(self._case, self), self._out)

    def take(self, partition: int, outputs: Outputs) -> None:
        """Add the outputs of a step of a partition."""
        for letter in outputs.dead_letters:
            headers = header_texts(letter.headers)
            refused = self.refused.setdefault(
                headers["stage"], RefusedRecords(0, partition, letter.offset, headers["reason"])
            )
            refused.count += 1
        if self._lines is not None:
            self._lines.writelines(output.value + b"\n" for output in outputs.predictions)
        elif self._out is not None:
            self._served += [
                Served(partition, output.offset, msgspec.json.decode(output.value, type=Prediction))
                for output in outputs.predictions
            ]
            for output in outputs.outcomes:
                outcome = msgspec.json.decode(output.value, type=Outcome)
                self._outcomes[outcome.prediction_id] = outcome

    def predictions(self) -> Iterator[Served]:
        """The predictions in the order in which they were made."""
        return iter(self._served)

    def outcomes(self) -> dict[str, Outcome]:
        """The newest outcome of each prediction."""
        return self._outcomes

    def as_json(self) -> dict[str, Any]:
        """What was refused, for `simulate --json`."""
        return {stage: msgspec.to_builtins(refused) for stage, refused in self.refused.items()}
