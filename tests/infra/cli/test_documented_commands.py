"""Every command of driftline that a page shows exists, with the options that the page gives it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

from driftline.infra.cli import app

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHOWN = re.compile(r"`driftline ([^`]+)`|^(?:\$ )?driftline (.+)$", re.M)
"""Commands in a line of text, and commands that are a line of their own."""


def shown() -> Iterator[tuple[str, str]]:
    """(page, command) of all pages; a line may have several, joined by &&."""
    for page in PAGES:
        for inline, line in SHOWN.findall(page.read_text("utf-8")):
            for command in (inline or line.partition(" #")[0]).split("&&"):
                yield str(page.relative_to(ROOT)), " ".join(command.split()).removeprefix("driftline ")


def unknown(command: Any, words: Sequence[str]) -> Iterator[str]:
    """The words that a command does not know: names of commands (`a|b` is either of them, `...` any), and
    options."""
    commands: dict[str, Any] = getattr(command, "commands", {})
    if commands and words and not words[0].startswith("-"):
        for name in words[0].split("|"):
            if name in commands:
                yield from unknown(commands[name], words[1:])
            elif name != "...":
                yield name
        return
    options = {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {"--help"}
    given = {word.partition("=")[0].strip("[]") for word in words if re.match(r"\[?-", word)}
    yield from sorted(given - options - {"-"})


@cache
def driftline() -> Any:
    return typer.main.get_command(app)


def unknown_to_driftline(command: str) -> list[str]:
    return list(unknown(driftline(), shlex.split(command.replace("'", ""))))


def test_pages_show_commands() -> None:
    assert len(set(shown())) > 100


@pytest.mark.parametrize(("page", "command"), sorted(set(shown())))
def test_a_command_on_a_page_is_known(page: str, command: str) -> None:
    assert unknown_to_driftline(command) == []


def test_a_wrong_command_and_a_wrong_option_are_noticed() -> None:
    assert unknown_to_driftline("features fetch flights") == ["fetch"]
    assert unknown_to_driftline("features get|fetch flights") == ["fetch"]
    assert unknown_to_driftline("simulate flights --nothing 3 --json") == ["--nothing"]
