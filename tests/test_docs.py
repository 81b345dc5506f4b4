"""The code that the pages of docs/ show can be run as it stands there."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import shop
import till

import driftline as dl

DOCS = Path(__file__).parents[1] / "docs"
FENCED = r"^```python\n(.*?)^```"
BLOCKS = [
    (page.name, number, code)
    for page in sorted(DOCS.glob("*.md"))
    for number, code in enumerate(re.findall(FENCED, page.read_text(), re.MULTILINE | re.DOTALL))
]
TABLE = (DOCS / "declare.md").read_text().partition("\n## Features\n")[2].partition("\n## ")[0]
FEATURES = re.findall(r"^\| `(\w+\(.*\))` \|", TABLE, re.MULTILINE)


class Arrived(dl.Event, tag="arrived"):
    flight: str
    delay: float


class Cancelled(dl.Event, tag="cancelled"):
    flight: str


class Checked(dl.Event, tag="checked"):
    machine: str
    broken: bool


class Chargeback(dl.Event, tag="chargeback"):
    payment: str


class Paid(dl.Event, tag="paid"):
    card: str
    amount: float
    merchant: str


class Merchant(dl.Reference, tag="merchant"):
    merchant: str
    age: int


def namespace() -> dict[str, Any]:
    """A module with the public names, and the classes and cases that pages speak of."""
    module = sys.modules["documented"] = ModuleType("documented")
    public = {name: getattr(dl, name) for name in dl.__all__}
    own = (Arrived, Cancelled, Checked, Chargeback, Paid, Merchant)
    vars(module).update(
        public,
        dl=dl,
        sales=till.sales,
        orders=shop.orders,
        Sold=till.Sold,
        **{one.__name__: one for one in own},
    )
    return vars(module)


@pytest.mark.filterwarnings("ignore::driftline.LabelWarning")
@pytest.mark.parametrize(("page", "number", "code"), BLOCKS, ids=[f"{page}-{n}" for page, n, _ in BLOCKS])
def test_a_block_of_code_runs(page: str, number: int, code: str) -> None:
    try:
        exec(code, namespace())  # the page's own code
    finally:
        del sys.modules["documented"]


@pytest.mark.parametrize("code", FEATURES)
def test_a_feature_of_the_table_can_be_declared(code: str) -> None:
    try:
        assert eval(code, namespace()) is not None  # the page's own code
    finally:
        del sys.modules["documented"]


def test_the_table_has_every_kind_of_feature_with_all_that_must_be_given() -> None:
    kinds = {
        name
        for name in dl.__all__
        if getattr(getattr(dl, name), "__module__", "") == dl.count.__module__ and callable(getattr(dl, name))
    }
    assert {code.partition("(")[0] for code in FEATURES} == kinds


def test_pages_with_code_are_among_them() -> None:
    assert {page for page, _, _ in BLOCKS} >= {"architecture.md", "declare.md", "labels.md"}
    assert all(ast.parse(code).body for _, _, code in BLOCKS)
