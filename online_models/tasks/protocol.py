"""The interface of a task of any kind, as pools and the fold use it."""

from __future__ import annotations

from typing import Any, Protocol

from driftline.online_models.tasks.task import Decision, Label


class Kind(Protocol):
    """The name and kind of a task."""

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def is_supervised(self) -> bool: ...


class Task(Protocol):
    """The interface of a task."""

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
        """The estimator as the pool uses it, possibly wrapped."""
        ...

    def predict(self, estimator: Any, x: dict[str, Any]) -> Any:
        """The output for the features `x`; None if the estimator has no answer. Raises NotFinite."""
        ...

    def check_label(self, y: Any) -> Any:
        """The normalised label. Raises ValueError for a value that is no label of the task."""
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
        """The output that was published as `point` and `probabilities`. Raises ValueError if they are not of
        this task."""
        ...
