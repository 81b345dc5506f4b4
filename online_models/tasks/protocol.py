"""What a pool asks of a task, whatever its kind."""

from __future__ import annotations

from typing import Any, Protocol

from driftline.online_models.tasks.task import Decision, Label


class Kind(Protocol):
    """What a task is of."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def is_supervised(self) -> bool: ...


class Task(Protocol):
    """What a pool and the fold need of a task."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def ask(self) -> type: ...
    @property
    def label(self) -> Label[Any]: ...
    @property
    def decision(self) -> Decision | None: ...
    @property
    def is_supervised(self) -> bool: ...
    def prepared(self, estimator: Any) -> Any:
        """The estimator as it is asked and taught."""
        ...

    def predict(self, estimator: Any, x: dict[str, Any]) -> Any:
        """The output for `x`; None where the estimator has no answer. Raises NotFinite."""
        ...

    def check_label(self, y: Any) -> Any:
        """The label, normalised; raises ValueError."""
        ...

    def loss(self, y: Any, output: Any) -> float:
        """The finite loss of an output."""
        ...

    def point(self, output: Any) -> Any:
        """The prediction to publish."""
        ...

    def probabilities(self, output: Any) -> dict[str, float] | None:
        """Probabilities to publish, by label."""
        ...

    def output_of(self, point: Any, probabilities: dict[str, float] | None) -> Any:
        """The output that was published as `point` and `probabilities`; raises ValueError."""
        ...
