"""Which case a command is about, and the settings it runs with."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from driftline.infra.settings import Settings
    from driftline.streams.declare.usecase import UseCase

DEMO_CASE = "driftline.examples.flights:flights"
SHIPPED_CASES = {"flights": DEMO_CASE}


def settings() -> Settings:
    """Those of this process."""
    from driftline.infra.settings import Settings

    return Settings.read()


def selected_case(name: str, partitions: int | None = None) -> UseCase:
    """The case with that name or module:attribute, with another number of partitions if one is given. Raises
    InfraError for a case of several tasks if none is named."""
    first, *others = selected_cases(name, partitions)
    if others:
        from driftline.infra.errors import InfraError

        tasks = ", ".join(case.task.name for case in (first, *others))
        raise InfraError(f"{name} has the tasks {tasks}: name one, as {name}@{others[0].task.name}")
    return first


def selected_cases(name: str, partitions: int | None = None) -> tuple[UseCase, ...]:
    """As `selected_case`; the cases of all tasks if there are several and none is named."""
    return declared_case(name, partitions).each()


def declared_case(name: str, partitions: int | None = None) -> UseCase:
    """As `selected_case`; with all its tasks if there are several and none is named."""
    from dataclasses import replace

    from driftline.streams.declare.usecase import load_case

    case = load_case(path_of(name))
    return case if partitions is None else replace(case, partitions=partitions)


def path_of(name: str) -> str:
    """module:attribute of a case, also from its short name; raises InfraError. Either may end with @task."""
    if ":" in name:
        return name
    given, (name, at, task) = name, name.partition("@")
    cases = _named()
    if name not in cases:
        from driftline.infra.errors import InfraError

        raise InfraError(
            f"{given!r} is neither module:attribute nor named under [tool.driftline.cases] in "
            "./pyproject.toml or [cases] in ./driftline.toml"
        )
    return f"{cases[name]}{at}{task}"


def only_case() -> str:
    """The case if none is named: the only one that the project declares, or the only one known. Raises
    InfraError if there are several.
    """
    from driftline.infra.errors import InfraError

    cases = _named()
    own = [name for name, path in cases.items() if SHIPPED_CASES.get(name) != path] or list(cases)
    if len(own) == 1:
        return own[0]
    raise InfraError(f"name the case: {', '.join(own)}")


def _named() -> dict[str, str]:
    """module:attribute by short name: the shipped cases, and those of the settings."""
    return SHIPPED_CASES | settings().cases
