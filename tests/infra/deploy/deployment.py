"""docker-compose.yml as the tests read it: with what the secured one lays over it, and without containers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
DEFAULT = re.compile(r"\$\{(\w+):-([^}]*)\}")
RESET = object()
OURS = ("worker", "gateway", "archive", "audit")


class _Loader(yaml.SafeLoader):
    """Knows what compose writes for "nothing of the file below"."""


_Loader.add_constructor("!reset", lambda loader, node: RESET)


def read(name: str) -> dict[str, Any]:
    """A compose file as it is written."""
    loaded: dict[str, Any] = yaml.load((ROOT / name).read_text("utf-8"), _Loader)
    return loaded


def plain() -> dict[str, Any]:
    """The services of docker-compose.yml."""
    return read("docker-compose.yml")


def secured() -> dict[str, Any]:
    """With docker-compose.secured.yml over it."""
    merged: dict[str, Any] = _over(plain(), read("docker-compose.secured.yml"))
    return merged


def _over(below: Any, above: Any) -> Any:
    """By the rules of compose, as far as the two files need them."""
    if isinstance(below, dict) and isinstance(above, dict):
        merged = below | {
            name: _over(below[name], value) if name in below else value for name, value in above.items()
        }
        return {name: value for name, value in merged.items() if value is not RESET}
    if isinstance(below, list) and isinstance(above, list):
        return above if below[0] in ("CMD", "sh", "bash") else below + above
    return above


def filled(text: str, **values: str) -> str:
    """With its variables, or their defaults, in place."""
    return DEFAULT.sub(lambda found: values.get(found[1], found[2]), text).replace("$$", "$")
