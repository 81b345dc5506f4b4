"""What label and void events state: for which key, which label, and whether they correct an earlier event."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from driftline.errors import pass_interrupt
from driftline.online_models.errors import reason_of
from driftline.online_models.tasks.protocol import Task
from driftline.streams.declare.events import Event
from driftline.streams.errors import Refused
from driftline.streams.fold.label_join import JoinRule, Statement
from driftline.streams.fold.route import Route
from driftline.streams.waiting.prediction import PredictionStatus


class LabelReader:
    """Reads label and void events by the rule of a task's label; the user's code in it may raise."""

    def __init__(self, task: Task, rule: JoinRule) -> None:
        self._task = task
        self._rule = rule
        self._value = task.label.value
        self._field = task.label.on
        self._join_key = attrgetter(task.label.on)

    def said(self, event: Event, at: float, label_key: Any, route: Route) -> Statement | None:
        """The statement of a label or void event; None if it states nothing."""
        label = None
        if route.labels:
            try:
                value = self._value(event)
                label = None if value is None else self._task.check_label(value)
            except BaseException as error:
                pass_interrupt(error)
                raise Refused("label", reason_of(error)) from error
        if label is None and not route.voids:
            return None
        status: PredictionStatus = "void" if label is None else "labelled"
        corrects = None if route.corrects is None else self._corrects(event, route.corrects)
        return Statement(label_key, status, label, at, event.id, corrects)

    def _corrects(self, event: Event, name: str) -> str | None:
        """The id of the label that an event corrects; None if it is no correction."""
        corrects = getattr(event, name)
        if corrects is None:
            return None
        if not isinstance(corrects, str):
            raise Refused("label", f"{name} is {corrects!r}: it names the id of the label that is corrected")
        if self._rule.corrections <= 0:
            raise Refused(
                "label", f"it corrects {corrects!r}, but the case takes no corrections (corrections=0)"
            )
        return corrects

    def key(self, event: Event) -> Any:
        """The value that labels are joined by."""
        try:
            key = self._join_key(event)
            hash(key)
        except BaseException as error:
            pass_interrupt(error)
            raise Refused("label", f"field {self._field!r}: {reason_of(error)}") from error
        if key is None:
            raise Refused("label", f"field {self._field!r} is null: labels are joined by its value")
        return key
