"""Functions that are generated for one declaration.

Which fields are read for an event, and which windows they go to, is the same for every event of a type. A
loop over lists of them costs more than the work itself. So the code is generated as source and compiled, as
attrs and dataclasses do it. A generated function has no state of its own and is never stored.
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
    """Builds a function line by line.

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
        """Make an object available in the function; returns its name there."""
        name = f"c{len(self._constants)}"
        self._constants[name] = value
        return name

    def line(self, text: str) -> None:
        """Append one line."""
        self._lines.append(INDENT * self._depth + text)

    def block(self, head: str, lines: Sequence[str]) -> None:
        """Append a compound statement with its lines indented. Without lines, append nothing."""
        if lines:
            self.line(head)
            for text in lines:
                self.line(INDENT + text)

    def function(self) -> Callable[..., Any]:
        """The compiled function."""
        namespace = dict(self._constants)
        exec(_compiled("\n".join(self._lines) + "\n", self._name), namespace)
        function: Callable[..., Any] = namespace[self._name]
        return function


def attribute(of: str, field: str) -> str:
    """Source that reads a field, whatever the field's name."""
    return f"getattr({of}, {field!r})" if iskeyword(field) else f"{of}.{field}"


def attributes(of: str, fields: Sequence[str]) -> str:
    """Source that reads a key: one field, or a tuple of several."""
    read = [attribute(of, field) for field in fields]
    return read[0] if len(read) == 1 else f"({', '.join(read)})"


@cache
def _compiled(source: str, name: str) -> CodeType:
    """Compile a source so that tracebacks show its lines."""
    file = f"<driftline {name} {len(linecache.cache)}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    return compile(source, file, "exec")
