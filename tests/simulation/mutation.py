"""What is broken on purpose in the code under test, and the first history in which that is noticed.

A mutation replaces text in the source of one function under test and puts the changed function in its
place. Text that is no longer there is an error: the mutation has to follow the code.
"""

from __future__ import annotations

import builtins
import dis
import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType, ModuleType
from typing import Any

from tests.simulation.chaos import Focus
from tests.simulation.run import Verdict, run


@dataclass(frozen=True, slots=True)
class Change:
    """In the function at `path` of a module, the text `before` becomes `after`."""

    module: ModuleType
    path: str
    before: str
    after: str

    def _owner(self) -> tuple[Any, str]:
        owner: Any = self.module
        *parents, name = self.path.split(".")
        for parent in parents:
            owner = getattr(owner, parent)
        return owner, name

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The changed function in the place of the real one, in every module that has imported it."""
        owner, name = self._owner()
        original = getattr(owner, name)
        source = textwrap.dedent(inspect.getsource(original))
        if source.count(self.before) != 1:
            raise LookupError(f"{self.path} has {source.count(self.before)} times the text {self.before!r}")
        namespace: dict[str, Any] = {}
        code = "from __future__ import annotations\n" + source.replace(self.before, self.after)
        compiled = compile(code, f"<mutated {self.path}>", "exec")
        if unknown := sorted(_globals_of(compiled) - vars(self.module).keys() - vars(builtins).keys()):
            raise LookupError(f"{self.path} has no {unknown}: that would be noticed, and not the change")
        exec(compiled, self.module.__dict__, namespace)
        holders = [owner] if owner is not self.module else _importers(name, original)
        try:
            for holder in holders:
                setattr(holder, name, namespace[name])
            yield
        finally:
            for holder in holders:
                setattr(holder, name, original)


def _globals_of(code: CodeType) -> set[str]:
    """The global names that a function loads."""
    inner = [one for one in code.co_consts if isinstance(one, CodeType)]
    own = {one.argval for one in dis.get_instructions(code) if one.opname == "LOAD_GLOBAL"}
    return own.union(*map(_globals_of, inner))


def _importers(name: str, function: Any) -> list[Any]:
    ours = ("driftline.", "tests.simulation.")
    found = [
        module
        for key, module in sys.modules.items()
        if key.startswith(ours) and getattr(module, name, None) is function
    ]
    if not found:
        raise LookupError(f"no module has {name}: its change would change nothing")
    return found


@dataclass(frozen=True, slots=True)
class Mutation:
    """One broken order of effects."""

    name: str
    change: Change
    focus: Focus | None = None
    """The fault that it takes to notice."""


def mutation(
    name: str, module: ModuleType, path: str, before: str, after: str, focus: Focus | None = None
) -> Mutation:
    return Mutation(name, Change(module, path, before, after), focus)


def first_caught(mutation: Mutation, seeds: range) -> Verdict | None:
    """The first seed that shows the mutation; None when none does."""
    with mutation.change.applied():
        verdicts = (run(seed, mutation.focus) for seed in seeds)
        return next((verdict for verdict in verdicts if verdict.violation is not None), None)
