"""Reads the settings, and knows where each comes from.

In this order, the first that has a setting gives it: flags (`driftline --set NAME=VALUE`), the environment
(`DRIFTLINE_NAME`), `./driftline.toml`, `[tool.driftline]` of `./pyproject.toml`, the default. A setting that
may hold a secret may be kept in a file instead, which `DRIFTLINE_NAME_FILE` or `name_file` names.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

from pydantic import SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PyprojectTomlConfigSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from pydantic_settings import (
    SettingsError as Unreadable,
)

from driftline.errors import DriftlineError
from driftline.settings import ForeignKafka, SettingValues, confidential, masked

_PREFIX = "DRIFTLINE_"
FILE = Path("driftline.toml")
PROJECT = Path("pyproject.toml")
FLAGS = "DRIFTLINE_FLAGS"
"""Names of the settings that flags have given."""
INTERNAL = {"DRIFTLINE_BEGUN_ANEW", "DRIFTLINE_BEGINS_AFTER", FLAGS}
"""Variables by which a process passes something to its successors; they are no settings."""

_Kind = TypeVar("_Kind", bound=SettingValues)
_Values = dict[str, tuple[Any, str]]
"""Values by dotted name, with what they come from."""


class SettingsError(DriftlineError):
    """A setting that cannot be used; names it, where it came from and where else it is looked for."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting as it may be shown to anybody; `name` is `foreign.name` for one of the bridge's Kafka."""

    name: str
    value: str | None
    source: str


class _Names(BaseSettings, SettingValues):
    """The same settings, for pydantic's sources."""

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX,
        env_nested_delimiter="_",
        env_nested_max_split=1,
        env_ignore_empty=True,
        pyproject_toml_table_header=("tool", "driftline"),
    )


def read(kind: type[_Kind]) -> _Kind:
    """The settings of this process; raises SettingsError."""
    given = _values()
    values: dict[str, Any] = {}
    for name, (value, _) in given.items():
        group, dot, rest = name.partition(".") if "." in name else ("", "", name)
        (values.setdefault(group, {}) if dot else values)[rest] = value
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise SettingsError("; ".join(_message(one, given) for one in error.errors())) from None


def explained() -> list[Setting]:
    """Every setting with where it comes from; raises SettingsError."""
    given, settings = _values(), read(SettingValues)
    names = [name for name in SettingValues.model_fields if name not in ("foreign", "cases")]
    names += [f"foreign.{name}" for name in type(settings.foreign).model_fields]
    names += [f"cases.{name}" for name in settings.cases]
    return [Setting(name, _value(settings, name), given.get(name, (None, "default"))[1]) for name in names]


def unknown_variables() -> list[str]:
    """Variables of the environment that are named as settings are and are none, by a slip perhaps."""
    known = {_variable(name) for name in _all_names()} | INTERNAL
    return sorted(
        name for name in os.environ
        if name.startswith(_PREFIX) and name not in known and not name.startswith(f"{_PREFIX}CASES_")
    )  # fmt: skip


def set_by_flags(given: Sequence[str]) -> None:
    """Have this process and its children read `NAME=VALUE` before all else; raises SettingsError.

    A secret is refused: everybody on the machine can read its processes' command lines.
    """
    names = [_set_by_flag(*flag.partition("=")) for flag in given]
    os.environ[FLAGS] = " ".join(sorted({*os.environ.get(FLAGS, "").split(), *names}))


def _set_by_flag(name: str, equals: str, value: str) -> str:
    known = _all_names()
    if not equals or name not in known:
        raise SettingsError(f"--set {name}: write NAME=VALUE, with a NAME of {', '.join(sorted(known))}")
    if name in _confidential_names():
        raise SettingsError(
            f"--set {name}: it may hold a secret, and everybody on this machine can read command lines; set "
            f"{_variable(name)}, or name a file that holds it: --set {name}_file=PATH"
        )
    if (base := _held_by_file(name)) is not None:
        os.environ.pop(_variable(base), None)
    os.environ[_variable(name)] = value
    return name


def child_environment(settings: SettingValues) -> dict[str, str]:
    """The environment of a child process that is to read these settings, as they are now."""
    environment = dict(os.environ)
    for name in settings.model_fields_set & set(SettingValues.model_fields) - {"foreign", "cases"}:
        value = getattr(settings, name)
        if value is None or isinstance(value, SecretStr):  # it finds a secret where this process did
            continue
        environment.pop(_variable(f"{name}_file"), None)
        environment[_variable(name)] = str(value)
    return environment


def _plain_names() -> set[str]:
    own = set(SettingValues.model_fields) - {"foreign", "cases"}
    return own | {f"foreign.{name}" for name in ForeignKafka.model_fields}


def _confidential_names() -> set[str]:
    return confidential(SettingValues) | {f"foreign.{name}" for name in confidential(ForeignKafka)}


def _all_names() -> set[str]:
    return _plain_names() | {f"{name}_file" for name in _confidential_names()}


def _held_by_file(name: str) -> str | None:
    """The setting whose value is in the file that `name` names; None where it is a plain setting."""
    base = name.removesuffix("_file")
    return base if base != name and base in _confidential_names() else None


def _variable(name: str) -> str:
    return _PREFIX + name.replace(".", "_").upper()


def _value(settings: SettingValues, name: str) -> str | None:
    value: Any = settings
    for part in name.split(".", 1):
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    return masked(value)


def _values() -> _Values:
    """What the sources have, the first that has a setting before the others."""
    flags = os.environ.get(FLAGS, "").split()
    values: _Values = {}
    _add(values, _from_environment(), lambda name: f"--set {name}" if name in flags else _variable(name))
    own = _from_file(FILE, TomlConfigSettingsSource)
    _add(values, own, lambda name: f"{name} in ./{FILE}")
    project = _from_file(PROJECT, PyprojectTomlConfigSettingsSource)
    _add(values, project, lambda name: f"{name} in [tool.driftline] of ./{PROJECT}")
    return values


def _from_environment() -> dict[str, Any]:
    try:
        given = _flat(EnvSettingsSource(_Names)())
    except Unreadable as error:
        raise SettingsError(f"the environment cannot be read: {error}") from None
    files = {f"{name}_file": os.environ.get(_variable(f"{name}_file")) for name in _confidential_names()}
    return given | {name: file for name, file in files.items() if file}


def _from_file(path: Path, source: type[TomlConfigSettingsSource]) -> dict[str, Any]:
    try:
        return _flat(source(_Names, path)())
    except (OSError, ValueError, AttributeError) as error:
        raise SettingsError(f"./{path}, which may hold settings, cannot be read: {error}") from None


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted name; what else is within a table than should be is left for the model to refuse."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if name in ("foreign", "cases") and isinstance(value, dict):
            flat |= {f"{name}.{inner}": one for inner, one in value.items()}
        else:
            flat[name] = value
    return flat


def _add(values: _Values, given: dict[str, Any], origin: Callable[[str], str]) -> None:
    """Add what a source has and none before it had; raises SettingsError for a secret that is there twice."""
    before = set(values)
    for name, value in given.items():
        base = _held_by_file(name)
        if base is not None and base in given:
            raise SettingsError(
                f"{base} is set twice, by {origin(base)} and by {origin(name)}: keep one of them"
            )
        if (base or name) in before:
            continue
        if base is None:
            values[name] = value, origin(name)
        else:
            values[base] = _content(str(value), origin(name)), f"{value}, named by {origin(name)}"


def _content(path: str, origin: str) -> str:
    try:
        return Path(path).read_text("utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise SettingsError(f"{origin} names a file that cannot be read: {error}") from None


def _message(error: Mapping[str, Any], given: _Values) -> str:
    """What is wrong with which setting, where it comes from and where it may be set; never its value."""
    name = ".".join(str(part) for part in error["loc"])
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        near = get_close_matches(name, _all_names(), 1)
        message = "there is no such setting" + (f"; {near[0]} is meant?" if near else "")
    if name in given:
        return f"setting {name}: {message} (it comes from {given[name][1]}). {_where(name)}"
    # of several settings together: the message begins with their names
    group = f"{name}." if name else ""
    named = [f"{group}{one}" for one in message.partition(":")[0].split(" and ")]
    origins = [
        f"{one} comes from {given[one][1]}" for one in (*named, f"{group}security_protocol") if one in given
    ]
    return (
        f"settings {group}{message}"
        + (f" ({', '.join(origins)})" if origins else "")
        + f". {_where(named[0])}"
    )


def _where(name: str) -> str:
    by_file = f"{name}_file" if name in _confidential_names() else ""
    flag = f"--set {by_file}=PATH" if by_file else f"--set {name}=VALUE"
    variables = f"{_variable(name)}, {_variable(by_file)}" if by_file else _variable(name)
    return (
        f"It may be given by {flag}, {variables}, {name} in ./{FILE} or in [tool.driftline] of ./{PROJECT}, "
        "of which the first counts"
    )
