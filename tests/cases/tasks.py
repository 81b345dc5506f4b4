"""A task for pools that no log feeds, and an estimator that answers as a test wants."""

from __future__ import annotations

from typing import Any

from driftline.online_models.tasks.task import Binary, Label


class Ask:
    pass


def itself(event: Any) -> Any:
    return event


LABEL = Label(Ask, on="id", value=itself, wait=1.0)
TASK = Binary("b", ask=Ask, label=LABEL)


class Reads:
    """An estimator whose answer is one of its inputs: as good or bad as a test wants it to be."""

    def __init__(self, name: str) -> None:
        self.name = name

    def learn_one(self, x: dict[str, Any], y: Any) -> None: ...

    def predict_proba_one(self, x: dict[str, Any]) -> dict[Any, float]:
        if x[self.name] is None:
            raise RuntimeError("no answer")
        return x[self.name] if isinstance(x[self.name], dict) else {True: x[self.name]}

    def predict_one(self, x: dict[str, Any]) -> float:
        return float(x[self.name])
