"""The description of a declaration as text: equal text means equal code, in every process and on every
machine.

The user's functions are described by their compiled code, their defaults and closures, and everything they
name, recursively: constants, functions and classes, also those that they import when they are called. The
user's classes are described by all their members, estimators by their parameters, other objects by the parts
that pickle would write, and libraries by name and version. Anything else is refused, and the error names it.
"""

from __future__ import annotations

import functools
import random
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from enum import Enum
from importlib import import_module
from importlib.util import find_spec
from types import (
    BuiltinFunctionType,
    CellType,
    FunctionType,
    MappingProxyType,
    MethodType,
    MethodWrapperType,
    ModuleType,
)
from typing import Any

import numpy as np

from driftline.streams.code.class_members import annotations_of, members_of
from driftline.streams.code.code_use import Import, compiled, use_of
from driftline.streams.code.pickled_parts import learned_state, parameters_of, pickled_parts
from driftline.streams.code.provenance import is_users, is_users_file, module_of, release
from driftline.streams.errors import Undescribable

_PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...), type(NotImplemented))
_BUILT_IN = (BuiltinFunctionType, MethodWrapperType, type(str.upper), type(int.__add__), type(dict.fromkeys))
_GENERATORS = (random.Random, np.random.Generator, np.random.RandomState)
LATER_FIELD = {"since": "later"}
"""Metadata of a field that was added to a declaration in a later release. At its default it is left out of
the description, so that a declaration that does not use it keeps its hash."""
_RUNS_TEXT = frozenset({"eval", "exec", "compile", "__import__"})


def described(declaration: Any, packages: Collection[str] = ()) -> str:
    """The canonical description of a declaration's value. Raises Undescribable, which names the part that has
    none.

    `packages` are top-level packages that count as the user's wherever they are installed.
    """
    try:
        return "\n".join(_Description(frozenset(packages)).of(declaration))
    except RecursionError:
        raise Undescribable("the declaration holds a value that is nested without end") from None


def functions_of(declaration: Any, packages: Collection[str] = ()) -> list[FunctionType]:
    """The user's functions that a declaration uses, directly or not, in the order of the description."""
    description = _Description(frozenset(packages))
    description.of(declaration)
    return description.functions


class _Description:
    """The lines that describe values. A function, class or other object is described at its first
    occurrence."""

    def __init__(self, packages: frozenset[str]) -> None:
        self._packages = packages
        self._parts: list[str] = []
        self._path: list[str] = []
        self.functions: list[FunctionType] = []
        # keeps the objects alive, so that no identity is used again
        self._described: dict[int, tuple[int, Any]] = {}

    def of(self, value: Any) -> list[str]:
        """The lines that describe a value."""
        self._add(value)
        return self._parts

    def _is_users(self, value: Any) -> bool:
        name = module_of(value)
        return name.partition(".")[0] in self._packages or is_users(name)

    def _say(self, *words: object) -> None:
        self._parts.append(" ".join(map(str, words)))

    def _add_at(self, place: str, value: Any) -> None:
        """Append the description of a value at a place within another."""
        self._say(place)
        with self._within(place):
            self._add(value)

    @contextmanager
    def _within(self, place: str) -> Iterator[None]:
        self._path.append(place)
        yield
        self._path.pop()

    def _add(self, value: Any) -> None:
        if isinstance(value, _PLAIN) and type(value) in _PLAIN:
            self._say(type(value).__name__, repr(value))
        elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
            self._say("array", value.dtype.descr, value.shape, value.tobytes().hex())
        elif type(value) in (list, tuple, deque):
            self._say(type(value).__name__, len(value))
            for number, item in enumerate(value):
                self._add_at(f"[{number}]", item)
        elif type(value) in (dict, MappingProxyType):
            self._say("mapping", len(value))
            for key, item in value.items():
                self._add(key)
                self._add_at(f"[{key!r}]" if isinstance(key, str) else "[...]", item)
        elif type(value) in (set, frozenset):
            self._add_set(value)
        elif isinstance(value, ModuleType):
            self._add_module(value, None)
        elif isinstance(value, Enum):
            self._say("member", value.name)
            self._add(type(value))
            self._add(value.value)
        else:
            self._add_once(value)

    def _add_set(self, value: Set[Any]) -> None:
        # each is described separately, or the order of iteration would change the text
        items = ["\n".join(_Description(self._packages).of(item)) for item in value]
        self._say("set", len(items), *sorted(items))

    def _add_once(self, value: Any) -> None:
        """Append the description of an object that may occur again, even within itself."""
        known = self._described.get(id(value))
        if known is not None:
            self._say("again", known[0])
            return
        self._described[id(value)] = len(self._described), value
        if isinstance(value, type):
            self._add_class(value)
        elif isinstance(value, FunctionType):
            self._add_function(value)
        elif isinstance(value, MethodType):
            self._say("method")
            self._add(value.__func__)
            self._add(value.__self__)
        elif isinstance(value, functools.partial):
            self._say("partial")
            self._add([value.func, value.args, value.keywords])
        elif isinstance(value, (staticmethod, classmethod)):
            self._say(type(value).__name__)
            self._add(value.__func__)
        elif isinstance(value, property):
            self._say("property")
            self._add([value.fget, value.fset, value.fdel])
        elif isinstance(value, functools.cached_property):
            self._say("cached property")
            self._add(value.func)
        elif isinstance(value, functools._lru_cache_wrapper):
            self._say("cached")
            self._add([value.__wrapped__, value.cache_parameters()])
        elif isinstance(value, _BUILT_IN):
            self._add_built_in(value)
        elif isinstance(value, CellType):
            self._say("cell")
            self._add([value.cell_contents])
        elif is_dataclass(value):
            self._add_dataclass(value)
        else:
            self._add_object(value)

    def _named(self, kind: str, value: Any) -> None:
        """Append the name of a library's object, and the library's version."""
        module = module_of(value)
        self._say(kind, f"{module}:{getattr(value, '__qualname__', '')}", release(module))

    def _add_built_in(self, value: Any) -> None:
        self._named("built in", value)
        of = getattr(value, "__self__", None)
        if of is not None and not isinstance(of, ModuleType):
            self._add(of)

    def _add_class(self, kind: type) -> None:
        if not self._is_users(kind):
            self._named("class", kind)
            return
        self._say("class", kind.__qualname__)
        with self._within(f"class {kind.__qualname__}"):
            for base in (*kind.__bases__, type(kind)):
                self._add(base)
            for name, hint in annotations_of(kind):
                self._add_at(f"{name}:", hint)
            for name, member in members_of(kind):
                self._add_at(f".{name}", member)

    def _add_dataclass(self, value: Any) -> None:
        self._add(type(value))
        with self._within(type(value).__name__):
            for entry in fields(value):
                part = getattr(value, entry.name)
                if entry.metadata.get("since") != "later" or part != entry.default:
                    self._add_at(entry.name, part)
            build = getattr(value, "build", None)
            if callable(build):
                self._add_at("build()", build())

    def _add_object(self, value: Any) -> None:
        parameters = parameters_of(value)
        if parameters is not None:
            self._add(type(value))
            with self._within(type(value).__name__):
                self._add(parameters)
            self._say("learned", learned_state(value))
            return
        try:
            parts = pickled_parts(value)
        except TypeError as error:
            raise Undescribable(_refusal(self._path, value, str(error))) from error
        with self._within(f"a {type(value).__qualname__}"):
            self._say("object")
            self._add(type(value))
            for part in parts:
                self._add(part)

    def _add_function(self, function: FunctionType) -> None:
        users = self._is_users(function)
        if users:
            self.functions.append(function)
            self._say("function", function.__qualname__)
        else:
            self._named("function", function)
        with self._within(f"function {function.__qualname__}"):
            registry = _overloads(function)
            if registry is not None:
                self._add(registry)
                return
            if users:
                self._add(compiled(function.__code__))
                self._add_use(function)
                for name, value in sorted(vars(function).items()):
                    self._add_at(f".{name}", value)
            # defaults and closures are not part of a function's code
            self._add_at("defaults", function.__defaults__)
            self._add_at("defaults by name", function.__kwdefaults__)
            for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
                self._refuse_generator(f"enclosed {name}", _contents(cell))
                self._add_at(f"enclosed {name}", _contents(cell))

    def _add_use(self, function: FunctionType) -> None:
        """Append the globals and imports that a user's function uses."""
        use = use_of(function)
        for name in use.names:
            if name in function.__globals__:
                self._add_used(f"global {name}", function.__globals__[name], use.attributes)
            elif name in _RUNS_TEXT:
                raise Undescribable(_refusal(self._path, function, f"it calls {name}, which runs any code"))
        for wanted in use.imports:
            self._add_import(wanted, use.attributes)

    def _add_used(self, place: str, value: Any, attributes: Collection[str]) -> None:
        if value is import_module or (isinstance(value, ModuleType) and value.__name__ == "importlib"):
            raise Undescribable(_refusal(self._path, value, "what it imports is known when it runs"))
        self._refuse_generator(place, value)
        self._say(place)
        with self._within(place):
            if isinstance(value, ModuleType):
                self._add_module(value, attributes)
            else:
                self._add(value)

    def _refuse_generator(self, place: str, value: Any) -> None:
        """Raise if a function draws random numbers from a generator outside of itself."""
        owner = getattr(value, "__self__", value)
        if isinstance(owner, _GENERATORS):
            reason = "after a restart it would draw other numbers than before"
            raise Undescribable(_refusal([*self._path, place], owner, reason))

    def _add_import(self, wanted: Import, attributes: Collection[str]) -> None:
        top = wanted.module.partition(".")[0]
        if top not in self._packages and not _is_importable_as_users(top):
            self._say("import", wanted.module, *wanted.names, release(wanted.module))
            if top == "importlib":
                raise Undescribable(_refusal(self._path, wanted, "what it imports is known when it runs"))
            return
        try:
            module = import_module(wanted.module)
        except ImportError:
            self._say("import", wanted.module, "absent")  # the function can run without it
            return
        if not wanted.names:
            self._add_used(f"import {wanted.module}", import_module(top), attributes)
            self._add_used(f"import {wanted.module}", module, attributes)
        for name in wanted.names:
            self._add_used(f"{wanted.module}.{name}", _imported(module, name), attributes)

    def _add_module(self, module: ModuleType, attributes: Collection[str] | None) -> None:
        """Append the parts of a module that are used, or all of it if those are unknown."""
        if not self._is_users(module):
            self._say("module", module.__name__, release(module.__name__))
            return
        if id(module) in self._described and attributes is None:
            self._say("again", self._described[id(module)][0])
            return
        self._described.setdefault(id(module), (len(self._described), module))
        self._say("module", module.__name__)
        held = vars(module)
        names = [name for name in held if not name.startswith("__")] if attributes is None else attributes
        for name in sorted(names):
            value = held.get(name)
            if name in held and not (isinstance(value, ModuleType) and id(value) in self._described):
                self._add_used(f".{name}", value, () if attributes is None else attributes)


def _is_importable_as_users(top: str) -> bool:
    """Whether a top-level name is a module of the user's, without importing libraries."""
    spec = find_spec(top)
    return spec is not None and is_users_file(top, spec.origin, spec.submodule_search_locations)


def _imported(module: ModuleType, name: str) -> Any:
    if hasattr(module, name):
        return getattr(module, name)
    return import_module(f"{module.__name__}.{name}")


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # the cell is still empty
        return None


def _overloads(function: FunctionType) -> dict[type, Callable[..., Any]] | None:
    """The functions by type of a functools.singledispatch function; None for any other function."""
    registry = getattr(function, "registry", None)
    if not isinstance(registry, Mapping) or function.__globals__.get("__name__") != "functools":
        return None
    return {
        kind: registry[kind]
        for kind in sorted(registry, key=lambda kind: (kind.__module__, kind.__qualname__))
    }


def _refusal(path: Collection[str], value: Any, reason: str) -> str:
    where = " > ".join(path) or "the declaration"
    kind = type(value).__qualname__
    return (
        f"{where}: a {kind} cannot be part of a declaration, since nobody could say whether it changed: "
        f"{reason}. Make it within the function that needs it, or name what decides it (a constant, a class)"
    )
