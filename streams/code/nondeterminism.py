"""Finds functions of a declaration that may give other results when they run again."""

from __future__ import annotations

import dis
from types import FunctionType, ModuleType
from typing import Any

from driftline.streams.code.code_use import use_of
from driftline.streams.code.provenance import module_of

_MODULES = {
    "time": "the clock",
    "random": "random numbers",
    "secrets": "random numbers",
    "uuid": "random numbers",
}
_ATTRIBUTES = {
    "now": "the clock",
    "utcnow": "the clock",
    "today": "the clock",
    "urandom": "random numbers",
    "default_rng": "random numbers",
}
_WRITES = ("STORE_GLOBAL", "DELETE_GLOBAL")


def suspicion(function: FunctionType) -> str | None:
    """What a function uses that differs between runs, in words; None when nothing is known to."""
    use = use_of(function)
    circumstances = {_ATTRIBUTES[name]: name for name in use.attributes if name in _ATTRIBUTES}
    modules = [wanted.module for wanted in use.imports]
    modules += [_origin(function.__globals__[name]) for name in use.names if name in function.__globals__]
    for name in modules:
        if name in _MODULES:
            circumstances[_MODULES[name]] = name
    written = [i.argval for i in dis.get_instructions(function) if i.opname in _WRITES]
    circumstances |= {f"global {name}": "which it changes" for name in written}
    if not circumstances:
        return None
    code = function.__code__
    reasons = ", ".join(f"{what} ({name})" for what, name in sorted(circumstances.items()))
    return f"{function.__qualname__} ({code.co_filename}:{code.co_firstlineno}) uses {reasons}"


def _origin(value: Any) -> str:
    """The module that a global is or comes from; for a method, the module of its object's class."""
    if isinstance(value, ModuleType):
        return value.__name__
    owner = getattr(value, "__self__", None)
    return module_of(value) or ("" if owner is None else module_of(type(owner)))
