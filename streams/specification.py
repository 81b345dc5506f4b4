"""What a declaration says, as text: equal text means equal code, in every process and on every machine.

A function is described by its source, what it was made with, and what it names: constants and functions
of the user's own modules, and so on down. Libraries are not looked into: their versions are part of the
numeric fingerprint.
"""

from __future__ import annotations

import inspect
import re
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Set
from dataclasses import fields, is_dataclass
from functools import lru_cache, partial
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

OWN_PACKAGES = frozenset({"driftline", "streams", "features", "online_models", "infra"})
"""Parts of driftline itself, wherever it is installed."""


def described(declaration: Any) -> str:
    """A canonical description of a declaration's value."""
    description = _Description()
    description.add(declaration)
    return "\n".join(description.parts)


class _Description:
    """Lines about values; a function or class of the user's is described once."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self._told: set[int] = set()

    def add(self, value: Any) -> None:
        """Append what there is to say of a value."""
        if isinstance(value, type):
            self._add_type(value)
        elif is_dataclass(value):
            self.parts.append(type(value).__name__)
            for entry in fields(value):
                self.parts.append(entry.name)
                self.add(getattr(value, entry.name))
            build = getattr(value, "build", None)
            if callable(build):
                self._add_object(build())
        elif isinstance(value, Mapping):
            for key, item in value.items():
                self.parts.append(repr(key))
                self.add(item)
        elif isinstance(value, Set):
            self.parts.extend(sorted(map(repr, value)))
        elif isinstance(value, (list, tuple)):
            for item in value:
                self.add(item)
        elif isinstance(value, partial):
            self.add([value.func, value.args, value.keywords])
        elif isinstance(value, FunctionType):
            self._add_function(value)
        elif inspect.ismethod(value):
            self.add([value.__func__, value.__self__])
        elif callable(value):
            self._add_object(value)
        else:
            self.parts.append(_without_address(repr(value)))

    def _add_type(self, kind: type) -> None:
        annotations = getattr(kind, "__annotations__", {})
        self.parts.append(f"type {kind.__qualname__} {annotations}")
        self.parts.append(_without_address(repr(getattr(kind, "__struct_defaults__", ()))))
        if is_own(kind) and id(kind) not in self._told:
            self._told.add(id(kind))
            for base in kind.__bases__:
                if is_own(base):
                    self._add_type(base)
            for name, member in vars(kind).items():
                function = getattr(member, "__func__", member)
                function = getattr(function, "fget", function)
                if isinstance(function, FunctionType):
                    self.parts.append(name)
                    self._add_function(function)

    def _add_object(self, value: Any) -> None:
        """An object that is used by what it does: its parameters, and its class."""
        self.parts.append(_without_address(repr(value)))
        self.parts.append(_source(type(value)))
        self._add_type(type(value))

    def _add_function(self, function: FunctionType) -> None:
        if id(function) in self._told:
            return
        self._told.add(id(function))
        self.parts.append(_source(function))
        # what a function was made with is not in its source
        self.add([function.__defaults__, function.__kwdefaults__])
        for cell in function.__closure__ or ():
            self.add(cell.cell_contents)
        if is_own(function):
            for name, value in _named(function.__code__, function.__globals__):
                self.parts.append(name)
                self.add(value)


def _named(code: CodeType, names: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(name, value) of the globals that a function uses, and of what it uses of the user's modules."""
    used = sorted(_names_in(code))
    for name in used:
        if name not in names:
            continue
        value = names[name]
        if not isinstance(value, ModuleType):
            if not callable(value) or is_own(value):
                yield name, value
        elif is_own(value):
            for attribute in used:
                if attribute in vars(value):
                    yield f"{name}.{attribute}", vars(value)[attribute]


def _names_in(code: CodeType) -> set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names_in(constant)
    return names


def is_own(value: Any) -> bool:
    """Whether a module, class or function is the user's: neither the library's nor driftline's."""
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    return isinstance(name, str) and _is_own_module(name)


@lru_cache
def _is_own_module(name: str) -> bool:
    if name.partition(".")[0] in OWN_PACKAGES:
        return False
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None:
        return name == "__main__"
    path = Path(file).resolve()
    installed = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    return not any(path.is_relative_to(Path(folder).resolve()) for folder in installed)


def _without_address(text: str) -> str:
    """The default repr names an address, which is another in every process."""
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def _source(value: Any) -> str:
    try:
        return inspect.getsource(value)
    except (OSError, TypeError):
        code = getattr(value, "__code__", None)
        return _without_address(repr(value)) if code is None else _compiled(code)


def _compiled(code: CodeType) -> str:
    """A function without a source file: its instructions and constants, those of inner functions too."""
    constants = [_compiled(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {constants}"
