"""The hash of a state, by a canonical walk over its values.

Two folds are in the same state if everything that they compute from it is equal. Pickle bytes cannot show
this: they change after a restore (memo, interning) and with PYTHONHASHSEED (sets). The walk visits what
pickle visits, by `__reduce_ex__(4)`, so it reaches into River's Cython and Rust types too. It hashes

- floats by their bits: -0.0 is not 0.0, and a NaN is itself;
- dicts in insertion order, because that is the order of a float sum over them (River's weights);
- attributes by name and sets by the hashes of their elements, since their order is arbitrary;
- classes and functions by module and qualified name;
- arrays by dtype, shape and elements in C order, whatever their strides.

It makes no difference whether two equal parts are one object or two, except within a cycle (a child that
refers to its parent): there each object has the number of its first visit, and a reference to it is that
number. The walk is iterative, so depth has no limit, and enters a shared object once, so time is linear in
the state's size.
"""

from __future__ import annotations

import copyreg
import hashlib
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from itertools import chain
from pickle import PicklingError
from types import FunctionType
from typing import Any

import numpy as np

from driftline.streams.errors import NoCanonicalForm


def state_hash(value: Any) -> str:
    """sha256, in hex, of the value's canonical form. Raises `NoCanonicalForm` when it has none."""
    graph = _Graph()
    graph.node([value])
    graph.expand()
    return _Digests(graph.nodes).of_root().hex()


def _text(value: str) -> bytes:
    encoded = value.encode("utf-8", "surrogatepass")
    return b"s%d;%s" % (len(encoded), encoded)


# each form marks its own end, so that a sequence of them is unambiguous
_ATOMS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"N",
    bool: lambda value: b"T" if value else b"F",
    int: lambda value: b"i%x;" % value,
    float: lambda value: b"f" + struct.pack("<d", value),
    complex: lambda value: b"c" + struct.pack("<dd", value.real, value.imag),
    str: _text,
    bytes: lambda value: b"b%d;%s" % (len(value), value),
}

_SEQUENCES: dict[type, bytes] = {list: b"list%d;", tuple: b"tuple%d;"}


class _Node:
    """One compound value: its kind and its parts, each either bytes or the number of another node."""

    __slots__ = ("kind", "ordered", "parts")

    def __init__(self) -> None:
        self.kind = b""
        self.parts: list[bytes | int] = []
        self.ordered = True

    def children(self) -> Iterator[int]:
        return (part for part in self.parts if type(part) is int)


class _Graph:
    """The compound values reachable from the first one, each numbered once by identity."""

    def __init__(self) -> None:
        self.nodes: list[_Node] = []
        self._numbers: dict[int, int] = {}
        self._values: list[Any] = []  # keeps the values alive, so that no identity is used again

    def node(self, value: Any) -> int:
        number = self._numbers.get(id(value))
        if number is None:
            number = self._numbers[id(value)] = len(self.nodes)
            self.nodes.append(_Node())
            self._values.append(value)
        return number

    def expand(self) -> None:
        """Fill each node. New nodes are appended on the way and are filled too."""
        for number, value in enumerate(self._values):
            self._fill(self.nodes[number], value)

    def _fill(self, node: _Node, value: Any) -> None:
        kind: type = type(value)
        if kind is dict:
            node.kind = b"dict%d;" % len(value)
            node.parts = self._parts(chain.from_iterable(value.items()))
        elif kind in _SEQUENCES:
            node.kind = _SEQUENCES[kind] % len(value)
            node.parts = self._parts(value)
        elif isinstance(value, set | frozenset):
            if getattr(value, "__dict__", None):
                raise NoCanonicalForm(f"a {kind.__qualname__}, which is a set, with attributes of its own")
            node.kind = b"set%d;%s" % (len(value), _text(_name(kind)))
            node.parts = self._parts(value)
            node.ordered = False
        elif kind is np.ndarray:
            node.kind = b"array" + _text(f"{value.dtype.str} {value.dtype.descr} {value.shape}")
            node.parts = self._parts(value.ravel().tolist()) if value.dtype.hasobject else [value.tobytes()]
        elif isinstance(value, Enum):
            node.kind = b"enum" + _text(_name(kind))
            node.parts = [self._part(value.value)]
        else:
            node.kind = b"object" + _text(f"{kind.__module__}:{kind.__qualname__}")
            node.parts = self._reduced(value)

    def _parts(self, values: Iterable[Any]) -> list[bytes | int]:
        return [self._part(value) for value in values]

    def _part(self, value: Any) -> bytes | int:
        atom = _ATOMS.get(type(value))
        if atom is not None:
            return atom(value)
        if isinstance(value, type | FunctionType):
            return b"g" + _text(_name(value))
        if isinstance(value, np.generic) and not isinstance(value, np.void):
            return b"n" + _text(value.dtype.str) + _text(value.tobytes().hex())
        return self.node(value)

    def _reduced(self, value: Any) -> list[bytes | int]:
        """The parts that pickle would write for an object."""
        reduce: Callable[[Any], Any] | None = copyreg.dispatch_table.get(type(value))
        try:
            reduced = reduce(value) if reduce else value.__reduce_ex__(4)
        except (TypeError, NotImplementedError, PicklingError) as error:
            raise NoCanonicalForm(f"a {type(value).__qualname__} in the state: {error}") from error
        if isinstance(reduced, str):  # the name of a global, as for a compiled function or a ufunc
            return [_text(f"{getattr(value, '__module__', None)}:{reduced}")]
        make, arguments, state, items, pairs, set_state = tuple(reduced) + (None,) * (6 - len(reduced))
        parts = [self._part(make), self._part(arguments)]
        parts += self._state(value, state)
        for tag, content in ((b"items", items), (b"pairs", pairs and chain.from_iterable(pairs))):
            listed = self._parts(content or ())
            parts += [b"%s%d;" % (tag, len(listed)), *listed]
        return [*parts, self._part(set_state)]

    def _state(self, value: Any, state: Any) -> list[bytes | int]:
        if hasattr(value, "__setstate__"):
            return [b"state", self._part(state)]
        halves = (
            state if isinstance(state, tuple) and len(state) == 2 else (state,)
        )  # the second half has the slots
        parts: list[bytes | int] = [b"attributes%d;" % len(halves)]
        for half in halves:
            if type(half) is dict and all(type(name) is str for name in half):
                live = _live_attributes(value, half)
                parts += [b"%d;" % len(live), *self._parts(chain.from_iterable(sorted(live.items())))]
            else:
                parts += [b"state", self._part(half)]
        return parts


def _live_attributes(value: Any, attributes: dict[str, Any]) -> dict[str, Any]:
    """The attributes that results can depend on. This is the only place where a library's type is normalised.

    Each distribution of `river.proba` has a random generator for `sample()`. Trees and naive Bayes make
    hundreds of them, unseeded, and never sample. Without them, equal folds have equal states.
    """
    if type(value).__module__.startswith("river.proba.") and attributes.get("seed", 0) is None:
        return {name: attribute for name, attribute in attributes.items() if name != "_rng"}
    return attributes


def _name(value: Any) -> str:
    """`module:qualified.name` of a class or function, by which it can be found again."""
    module, path = value.__module__, value.__qualname__
    if module == "builtins":
        return f"builtins:{path}"  # NoneType and others are not found there, and are the same everywhere
    named: Any = sys.modules.get(module)
    for name in path.split("."):
        named = getattr(named, name, None)
    if named is not value:
        raise NoCanonicalForm(f"{path} is not found in module {module}: it has no name another process knows")
    return f"{module}:{path}"


class _Digests:
    """sha256 of each node over its parts. Nodes that refer to each other are hashed together.

    Tarjan's algorithm (Depth-first search and linear graph algorithms, 1972) gives the cycles, inner ones
    first. The order of visits within a cycle depends only on the cycle and on the node where it was entered.
    """

    def __init__(self, nodes: list[_Node]) -> None:
        self._nodes = nodes
        self._digest: list[bytes] = [b""] * len(nodes)
        self._in_cycle: list[bool] = [False] * len(nodes)  # True also for nodes above a cycle

    def of_root(self) -> bytes:
        for cycle in _components(self._nodes):
            if len(cycle) == 1 and cycle[0] not in self._nodes[cycle[0]].children():
                self._single(cycle[0])
            else:
                self._cycle(cycle)
        return self._digest[0]

    def _single(self, number: int) -> None:
        node = self._nodes[number]
        self._in_cycle[number] = any(self._in_cycle[child] for child in node.children())
        resolved = [self._resolved(part, {}) for part in node.parts]
        if not node.ordered:
            if self._in_cycle[number]:
                self._refuse_set()
            resolved.sort()
        self._digest[number] = hashlib.sha256(node.kind + b"".join(resolved)).digest()

    def _cycle(self, cycle: list[int]) -> None:
        positions = {number: position for position, number in enumerate(cycle)}
        together = hashlib.sha256(b"cycle%d;" % len(cycle))
        for number in cycle:
            node = self._nodes[number]
            if not node.ordered:
                self._refuse_set()
            together.update(node.kind)
            together.update(b"".join([self._resolved(part, positions) for part in node.parts]))
        whole = together.digest()
        for number, position in positions.items():
            self._in_cycle[number] = True
            self._digest[number] = hashlib.sha256(b"of cycle%d;" % position + whole).digest()

    def _resolved(self, part: bytes | int, positions: dict[int, int]) -> bytes:
        if isinstance(part, bytes):
            return part
        position = positions.get(part)
        return b"#" + self._digest[part] if position is None else b"@%d;" % position

    def _refuse_set(self) -> None:
        raise NoCanonicalForm(
            "a set with a cycle beneath it: where the cycle is entered would be an accident"
        )


def _components(nodes: list[_Node]) -> Iterator[list[int]]:
    """Strongly connected components from node 0, inner ones first, each in the order of first visits."""
    index: list[int] = [-1] * len(nodes)
    lowest: list[int] = [0] * len(nodes)
    closed: list[bool] = [False] * len(nodes)
    open_nodes: list[int] = []
    visited = 0
    path: list[tuple[int, Iterator[int]]] = [(0, nodes[0].children())]
    while path:
        number, children = path[-1]
        if index[number] < 0:
            index[number] = lowest[number] = visited
            visited += 1
            open_nodes.append(number)
        for child in children:
            if index[child] < 0:
                path.append((child, nodes[child].children()))
                break
            if not closed[child]:
                lowest[number] = min(lowest[number], index[child])
        else:
            path.pop()
            if path:
                above = path[-1][0]
                lowest[above] = min(lowest[above], lowest[number])
            if lowest[number] == index[number]:
                component = []
                while not closed[number]:
                    component.append(open_nodes.pop())
                    closed[component[-1]] = True
                yield component[::-1]
