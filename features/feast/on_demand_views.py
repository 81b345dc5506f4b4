"""On-demand views as Feast objects, to be imported where Feast is."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from types import FunctionType
from typing import Any

from feast import FeatureView, Field, RequestSource
from feast.feature_view import DUMMY_ENTITY_FIELD
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.transformation.python_transformation import PythonTransformation
from feast.types import Bool, Float64, Int64, String

from driftline.features.declare.feature_descriptions import feast_tags, in_words, owners, shared_tags
from driftline.features.declare.on_demand import OnDemandView, columns_function

TYPES = {float: Float64, int: Int64, bool: Bool, str: String}
PLAIN = (int, float, str, bytes, type(None), tuple)


class DeclaredOnDemandView(OnDemandFeatureView):  # type: ignore[misc]
    """Feast's view, but with declared features. Feast's own view runs the functions on made-up values to
    infer their types, which need not be valid arguments, and takes fields with a description or tags for
    different ones.
    """

    def infer_features(self) -> None:
        """Nothing to infer: the features are declared."""


def feast_view(view: OnDemandView, sources: Mapping[str, FeatureView], tags: Mapping[str, str]) -> Any:
    """The Feast object of a view; `sources` are the Feast objects of its source views by name."""
    inputs: list[Any] = [sources[name][list(names)] for name, names in view.sources.items()]
    if view.request:
        schema = [Field(name=name, dtype=TYPES[kind]) for name, kind in view.request.items()]
        inputs.append(RequestSource(name=f"{view.name}_request", schema=schema))
    notes = [feature.note for feature in view.features.values()]
    fields = [
        Field(
            name=name,
            dtype=TYPES[getattr(feature, "kind", float)],
            description=feature.note.description,
            tags=feast_tags(feature.note),
        )
        for name, feature in view.features.items()
    ]
    declared = DeclaredOnDemandView(
        name=view.name,
        schema=fields,
        sources=inputs,
        mode="python",
        feature_transformation=PythonTransformation(columns_function(view), "\n".join(_source(view))),
        description="; ".join(f"{name}: {in_words(feature)}" for name, feature in view.features.items()),
        tags={**shared_tags(notes), **tags},
        owner=owners(notes),
    )
    # what applying would add, so that the view equals the one that was applied
    declared.entity_columns = [DUMMY_ENTITY_FIELD]
    return declared


def _source(view: OnDemandView) -> Iterator[str]:
    """What the view computes, as comments: Feast regards views with the same text as equal, and runs the
    pickled function of a view whose text defines none."""
    for name, values in view.sources.items():
        yield f"# from {name}: {', '.join(values)}"
    for name, value in view.unseen.items():
        yield f"# {name} is {value} where there is no row"
    for one in view.steps:
        valid = f"valid {one.low!r} to {one.high!r}, kept {one.keeps}"
        yield f"# {one.name} ({one.kind}, {valid}) of {', '.join(one.of)}"
        yield from (f"#     {line}" for line in _code(one.compute))
    for name, feature in view.features.items():
        yield f"# {name}: {feature.note!r}"


def _code(function: Any) -> Iterator[str]:
    """The source of a function, and the plain values that it takes from around it."""
    if not isinstance(function, FunctionType):
        yield repr(function)
        return
    try:
        yield from inspect.getsource(function).splitlines()
    except OSError:
        yield function.__code__.co_code.hex()
    around = inspect.getclosurevars(function)
    for name, value in sorted({**around.globals, **around.nonlocals}.items()):
        if isinstance(value, PLAIN):
            yield f"{name} = {value!r}"
