"""Readers that know nothing of driftline but the schemas that it exports."""

from __future__ import annotations

import importlib.util
import json
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jsonschema


def violations(schema: dict[str, Any], values: Iterable[bytes]) -> list[str]:
    """What the schema says against each record."""
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    return [
        f"{error.message} in {value[:200]!r}"
        for value in values
        for error in validator.iter_errors(json.loads(value))
    ]


def generated_reader(schema: dict[str, Any], folder: Path) -> Callable[[bytes], Any]:
    """A function that reads a record, of the classes that a code generator makes of the schema."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        from datamodel_code_generator import DataModelType, InputFileType, generate

        source = folder / "generated.py"
        generate(
            json.dumps(schema),
            input_file_type=InputFileType.JsonSchema,
            output=source,
            output_model_type=DataModelType.PydanticV2BaseModel,
            class_name="Record",
        )
    spec = importlib.util.spec_from_file_location("generated", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # pydantic looks it up there
    spec.loader.exec_module(module)
    read: Callable[[bytes], Any] = module.Record.model_validate_json
    return read
