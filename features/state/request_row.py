"""How the features of a request are read: what is declared of each, and the function that reads them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, get_type_hints

from driftline.features.declare.keys import holds_enum, is_doubtful, kinds_of
from driftline.features.state.feature_value import LARGEST, checked, failed
from driftline.features.state.generated_function import GeneratedFunction, attribute, attributes
from driftline.features.state.online_view import WindowReading
from driftline.features.state.references import References

ReadRow = Callable[[Any, float], dict[str, Any]]
"""From a request and its time to its features; missing ones are absent. Raises FeatureValueError."""


class FieldReading(NamedTuple):
    """A feature that is a field of the request; one that is not `plain` is checked at each read."""

    name: str
    field: str
    plain: bool


class DerivedReading(NamedTuple):
    """A feature that user code gives."""

    name: str
    function: Callable[[Any], Any]


class LookupReading(NamedTuple):
    """A feature that is a field of a reference no older than `ttl` seconds, found by the request's `by`."""

    name: str
    references: References
    by: str
    field: str
    plain: bool
    ttl: float


def is_plain(event: type, field: str) -> bool:
    """Whether a field's type says that all it may hold is a feature's value."""
    hint = get_type_hints(event)[field]
    return bool(kinds_of(hint)) and not (holds_enum(hint) or is_doubtful(event, field))


class RequestRow:
    """The features of one type of request, in the order in which they are read: fields, user code, windows,
    references. `keys` are the fields of each key that `windows` name by its place."""

    def __init__(self) -> None:
        self.fields: list[FieldReading] = []
        self.derived: list[DerivedReading] = []
        self.keys: dict[tuple[str, ...], int] = {}
        self.windows: list[WindowReading] = []
        self.lookups: list[LookupReading] = []

    def place(self, by: tuple[str, ...]) -> int:
        """Where among the keys of a request the one of these fields stands."""
        return self.keys.setdefault(by, len(self.keys))

    def names(self) -> Iterator[str]:
        """The features in the order in which they are read."""
        yield from (one.name for one in self.fields)
        yield from (one.name for one in self.derived)
        yield from (one.name for one in self.windows)
        yield from (one.name for one in self.lookups)

    def reader(self) -> ReadRow:
        """The function that reads them; it is made once, when all are declared."""
        routine = GeneratedFunction("read_features", "request", "at")
        names: list[tuple[str, str, bool]] = []

        def named(feature: str, *, may_be_none: bool = True) -> str:
            names.append((feature, value := f"v{len(names)}", may_be_none))
            return value

        for one in self.fields:
            value = named(one.name)
            routine.line(f"{value} = {_read(routine, one.name, 'request', one.field, one.plain)}")
        for derived in self.derived:
            write_result(routine, named(derived.name), derived.name, derived.function, "request", checked)
        for by, place in self.keys.items():
            routine.line(f"k{place} = {attributes('request', by)}")
        self._write_windows(routine, named)
        for lookup in self.lookups:
            value = named(lookup.name)
            self._write_lookup(routine, value, lookup)
        _write_row(routine, names)
        return routine.function()

    def _write_windows(self, routine: GeneratedFunction, named: Callable[..., str]) -> None:
        """Features of one window after another find it once, and each length begins at one time."""
        overs = dict.fromkeys(window.over for window in self.windows)
        since = {over: f"since{place}" for place, over in enumerate(overs)}
        for over, begins in since.items():
            routine.line(f"{begins} = at - {over!r}")
        found = None
        for one in self.windows:
            value = named(one.name, may_be_none=one.missing is None)
            if (one.window_of, one.place) != found:
                routine.line(f"window = {routine.constant(one.window_of)}(k{one.place})")
                found = (one.window_of, one.place)
            read = f"{routine.constant(one.read)}(window, at, {since[one.over]})"
            routine.line(f"{value} = {one.missing!r} if window is None else {read}")

    @staticmethod
    def _write_lookup(routine: GeneratedFunction, value: str, lookup: LookupReading) -> None:
        find, ttl = routine.constant(lookup.references.find), routine.constant(lookup.ttl)
        read = _read(routine, lookup.name, "known[1]", lookup.field, lookup.plain)
        routine.line(f"known = {find}({attribute('request', lookup.by)}, at)")
        routine.line(f"{value} = None if known is None or at - known[0] > {ttl} else {read}")


def _read(routine: GeneratedFunction, name: str, of: str, field: str, plain: bool) -> str:
    read = attribute(of, field)
    return read if plain else f"{routine.constant(checked)}({name!r}, {read})"


def _write_row(routine: GeneratedFunction, names: Sequence[tuple[str, str, bool]]) -> None:
    """Make the row at once, then take out what is missing: one that grows is made again on the way."""
    routine.line("row = {" + ", ".join(f"{feature!r}: {value}" for feature, value, _ in names) + "}")
    for feature, value, may_be_none in names:
        if may_be_none:
            routine.block(f"if {value} is None:", [f"del row[{feature!r}]"])
    routine.line("return row")


def write_result(
    routine: GeneratedFunction,
    value: str,
    name: str,
    function: Callable[[Any], Any],
    of: str,
    check: Callable[[str, Any], Any],
) -> None:
    """Write the call of user code: what it raises becomes a FeatureValueError, and what it gives is checked,
    unless it is an ordinary float."""
    call, fail, plain = routine.constant(function), routine.constant(failed), routine.constant(check)
    routine.block("try:", [f"{value} = {call}({of})"])
    routine.block("except BaseException as error:", [f"raise {fail}({name!r}, error) from error"])
    routine.block(
        f"if {value}.__class__ is not float or not -{LARGEST!r} <= {value} <= {LARGEST!r}:",
        [f"{value} = {plain}({name!r}, {value})"],
    )
