"""Compares a case's schemas with those it had."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from driftline.infra.errors import InfraError
from driftline.streams.clients.schema import topic_schemas
from driftline.streams.clients.schema_change import breaks
from driftline.streams.declare.usecase import UseCase, load_case


def broken(case: UseCase, against: str, path_of: Callable[[str], str]) -> list[str]:
    """In words, what a case breaks of the schemas in a file, or of another case; `path_of` resolves names.

    Raises InfraError for a file that is none of schemas.
    """
    topics = case.topics()
    old = _read(Path(against)) if Path(against).is_file() else topic_schemas(load_case(path_of(against)))
    names = []
    for topic in (topics.log, topics.predictions):
        kind = topic.rpartition(".")[2]
        named = [name for name in old if name.rpartition(".")[2] == kind]
        if len(named) != 1:
            raise InfraError(
                f"{against}: {len(named)} topics are named *.{kind}; one is needed to compare with"
            )
        names.append(named[0])
    # topics may have had a namespace, or another case's name
    old = {topics.log: old[names[0]], topics.predictions: old[names[1]]}
    return list(breaks(old, topic_schemas(case), topics.log, topics.predictions))


def _read(path: Path) -> dict[str, Any]:
    try:
        schema = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InfraError(f"{path}: not what `driftline schema CASE` prints: {error}") from error
    if not isinstance(schema, dict):
        raise InfraError(f"{path}: not what `driftline schema CASE` prints: a {type(schema).__name__}")
    return schema
