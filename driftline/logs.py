"""What a process logs, and what each line is about: for people, or as JSON for what collects logs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextvars import ContextVar

from driftline.setting_sources import read
from driftline.settings import SettingValues

FieldValue = str | int | None
_about: ContextVar[Mapping[str, FieldValue | Callable[[], FieldValue]]] = ContextVar("about", default={})  # noqa: B039


def about(**fields: FieldValue | Callable[[], FieldValue]) -> None:
    """Have this task, and those that it starts, name these fields in each line; a function is asked then.

    >>> about(partition=3)
    >>> about(offset=lambda: 17)
    >>> subjects()
    {'partition': 3, 'offset': 17}
    """
    _about.set({**_about.get(), **fields})


def subjects() -> dict[str, FieldValue]:
    """The fields of a line that is logged here and now."""
    values = {name: value() if callable(value) else value for name, value in _about.get().items()}
    return {name: value for name, value in values.items() if value is not None}


def begin(**fields: FieldValue) -> None:
    """Have this process log warnings to standard error; else as `as_set`."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    as_set(logging.getLogger(), **fields)


def as_set(root: logging.Logger, **fields: FieldValue) -> None:
    """Have a logger's handlers write as the setting `log` says, these fields in each line of JSON.

    Raises SettingsError.
    """
    if read(SettingValues).log == "text":
        return
    from pythonjsonlogger.json import JsonFormatter

    formatter = JsonFormatter(
        "{levelname}{name}{message}",
        style="{",
        rename_fields={"levelname": "level", "name": "logger"},
        timestamp="at",
        json_ensure_ascii=False,
    )
    for handler in root.handlers:
        handler.setFormatter(formatter)
        handler.addFilter(_Subjects(fields))


def leave_out_chatter() -> None:
    """Have this process's log leave out what kafka-python says of each attempt to connect, several times a
    second, and of a step that took long on a busy machine: an outage is reported by who waits for its end.
    So too, that it cannot read what members of Faust's groups tell each other: nobody here asks for that."""
    logging.getLogger("kafka.net").setLevel(logging.CRITICAL)
    logging.getLogger("kafka.admin").setLevel(logging.ERROR)


class _Subjects(logging.Filter):
    """Adds to a line what it is about: what the process always is, and the task it comes from."""

    def __init__(self, always: Mapping[str, FieldValue]) -> None:
        super().__init__()
        self._always = always

    def filter(self, record: logging.LogRecord) -> bool:
        for name, value in {**self._always, **subjects()}.items():
            setattr(record, name, value)
        return True
