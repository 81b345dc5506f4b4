"""The instructions of a function's compiled code, and the names and modules that it uses.

The compiled code is read, not the source file: the file may have been edited after the import, a line of it
may have several lambdas, and its text differs when a comment changes.
"""

from __future__ import annotations

import dis
from collections.abc import Iterator
from importlib.util import resolve_name
from types import CodeType, FunctionType
from typing import Any, NamedTuple

_GLOBAL = ("LOAD_GLOBAL", "LOAD_NAME")
_ATTRIBUTE = ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR")


class Import(NamedTuple):
    """An import inside a function: `import module`, or `from module import names`."""

    module: str
    names: tuple[str, ...]


class CodeUse(NamedTuple):
    """The names that a function and the functions within it use, sorted."""

    names: tuple[str, ...]
    attributes: tuple[str, ...]
    imports: tuple[Import, ...]


def use_of(function: FunctionType) -> CodeUse:
    """The globals, attributes and modules that a function uses."""
    names: set[str] = set()
    attributes: set[str] = set()
    imports: set[Import] = set()
    package = function.__globals__.get("__package__") or ""
    for code in _codes(function.__code__):
        stack: list[Any] = []  # constants loaded just before, among them an import's level and names
        for instruction in dis.get_instructions(code):
            if instruction.opname in _GLOBAL:
                names.add(instruction.argval)
            elif instruction.opname in _ATTRIBUTE:
                attributes.add(instruction.argval)
            elif instruction.opname == "IMPORT_NAME":
                level, wanted = stack[-2:]
                module = (
                    resolve_name("." * level + instruction.argval, package) if level else instruction.argval
                )
                imports.add(Import(module, tuple(wanted or ())))
            stack = [*stack, instruction.argval] if instruction.opname.startswith("LOAD_") else []
    return CodeUse(tuple(sorted(names)), tuple(sorted(attributes)), tuple(sorted(imports)))


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def compiled(code: CodeType) -> list[Any]:
    """Instructions, parameters and constants, without the code's position and without unused names."""
    parameters = code.co_argcount + code.co_kwonlyargcount + 2  # *args and **kwargs too
    return [
        code.co_code,
        code.co_exceptiontable,
        code.co_flags,
        (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount),
        code.co_varnames[:parameters],
        code.co_names,
        code.co_freevars,
        [compiled(constant) if isinstance(constant, CodeType) else constant for constant in code.co_consts],
    ]
