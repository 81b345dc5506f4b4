"""How the features of a request are read: one entry for each feature, and the function that reads them
all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from driftline.features.declare.field_types import field_types
from driftline.features.declare.keys import holds_enum, is_doubtful, kinds_of
from driftline.features.state.feature_value import LARGEST, checked, failed
from driftline.features.state.generated_function import GeneratedFunction, attribute, attributes
from driftline.features.state.online_view import WindowReading
from driftline.features.state.references import References

ReadRow = Callable[[Any, float], dict[str, Any]]
"""Takes a request and its time in seconds, gives its features; missing ones are absent. Raises
FeatureValueError."""


class FieldReading(NamedTuple):
    """A feature that is a field of the request. Its value is checked at each read, unless it is `plain`."""

    name: str
    field: str
    plain: bool


class DerivedReading(NamedTuple):
    """A feature that user code computes from the request."""

    name: str
    function: Callable[[Any], Any]


class LookupReading(NamedTuple):
    """A feature that is a field of a reference, looked up by the request's `by`, at most `ttl` seconds
    old."""

    name: str
    references: References
    by: str
    field: str
    plain: bool
    ttl: float


def is_plain(event: type, field: str) -> bool:
    """Whether every value of the field's type is a valid feature value."""
    hint = field_types(event)[field]
    return bool(kinds_of(hint)) and not (holds_enum(hint) or is_doubtful(event, field))


class RequestRow:
    """The features of one type of request, in the order in which they are read: fields, user code, windows,
    references. `keys` are the fields of each key; windows name their key by its place in the list."""

    def __init__(self) -> None:
        self.fields: list[FieldReading] = []
        self.derived: list[DerivedReading] = []
        self.keys: dict[tuple[str, ...], int] = {}
        self.windows: list[WindowReading] = []
        self.lookups: list[LookupReading] = []

    def place(self, by: tuple[str, ...]) -> int:
        """The place of the key of these fields among the keys of the request."""
        return self.keys.setdefault(by, len(self.keys))

    def names(self) -> Iterator[str]:
        """The features in the order in which they are read."""
        yield from (one.name for one in self.fields)
        yield from (one.name for one in self.derived)
        yield from (one.name for one in self.windows)
        yield from (one.name for one in self.lookups)

    def reader(self) -> ReadRow:
        """The function that reads the features. It is generated once, when all are declared."""
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
        """Write the reads of windows: a window of several features is looked up once, and the start of each
        length is computed once."""
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
    """Write the row with all features and delete the missing ones: a dict that grows would be rebuilt."""
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
    """Write the call of user code. Its exceptions become FeatureValueErrors, and its result is checked unless
    it is a float within the limits."""
    call, fail, plain = routine.constant(function), routine.constant(failed), routine.constant(check)
    routine.block("try:", [f"{value} = {call}({of})"])
    routine.block("except BaseException as error:", [f"raise {fail}({name!r}, error) from error"])
    routine.block(
        f"if {value}.__class__ is not float or not -{LARGEST!r} <= {value} <= {LARGEST!r}:",
        [f"{value} = {plain}({name!r}, {value})"],
    )
