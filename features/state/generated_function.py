"""Functions written for one declaration, once it is known.

What a fold does for every event (which fields are read, which windows they go to) is the same each time. Said
by loops over lists, that costs more than the work itself; so it is written out as source and compiled, as
attrs and dataclasses do. A routine holds no state of its own, and is never stored.
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Sequence
from functools import cache
from keyword import iskeyword
from types import CodeType
from typing import Any

INDENT = "    "


class GeneratedFunction:
    """A function that is written line by line.

    >>> routine = GeneratedFunction("doubled", "value")
    >>> factor = routine.constant(2)
    >>> routine.line(f"return value * {factor}")
    >>> routine.function()(21)
    42
    """

    def __init__(self, name: str, *parameters: str) -> None:
        self._lines = [f"def {name}({', '.join(parameters)}):"]
        self._name = name
        self._constants: dict[str, Any] = {}
        self._depth = 1

    def constant(self, value: Any) -> str:
        """What an object, which is the same at every call, is called in the function."""
        name = f"c{len(self._constants)}"
        self._constants[name] = value
        return name

    def line(self, text: str) -> None:
        """One more line, where the last one ended."""
        self._lines.append(INDENT * self._depth + text)

    def block(self, head: str, lines: Sequence[str]) -> None:
        """A compound statement with its lines, indented from there; none without lines."""
        if lines:
            self.line(head)
            for text in lines:
                self.line(INDENT + text)

    def function(self) -> Callable[..., Any]:
        """The function."""
        namespace = dict(self._constants)
        exec(_compiled("\n".join(self._lines) + "\n", self._name), namespace)
        function: Callable[..., Any] = namespace[self._name]
        return function


def attribute(of: str, field: str) -> str:
    """The source that reads a field, whatever it is called."""
    return f"getattr({of}, {field!r})" if iskeyword(field) else f"{of}.{field}"


def attributes(of: str, fields: Sequence[str]) -> str:
    """The source that reads a key: the field, or a tuple of several."""
    read = [attribute(of, field) for field in fields]
    return read[0] if len(read) == 1 else f"({', '.join(read)})"


@cache
def _compiled(source: str, name: str) -> CodeType:
    """The code of a source; tracebacks show its lines."""
    file = f"<driftline {name} {len(linecache.cache)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    return compile(source, file, "exec")
