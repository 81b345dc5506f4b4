"""mypy sees what is wrong in a declaration, and nothing wrong in one that is right."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GOOD = """\
from datetime import timedelta
import driftline as dl

class Asked(dl.Event, tag="asked"):
    order: str
    shop: str
    amount: float

class Settled(dl.Event, tag="settled"):
    order: str
    shop: str
    bad: float

def logistic() -> object:
    from river import linear_model
    return linear_model.LogisticRegression()

case = dl.UseCase(
    "orders", key="shop", events=[Asked, Settled], lateness=timedelta(seconds=5), max_jump=dl.DAY,
    features={
        "bad_1h": dl.mean(Settled, lambda e: e.bad, by="shop", over=timedelta(hours=1), description="share"),
        "bad_1d": dl.mean(Settled, "bad", by="shop", over=dl.DAY),
        "last": dl.latest(Settled, "bad", by="shop", ttl=timedelta(days=1), max_keys=10),
        "amount": dl.field("amount", unit="EUR"),
    },
    task=dl.Binary("bad", ask=Asked, label=dl.Label(
        Settled, on="order", value=lambda e: e.bad > 0.5, wait=timedelta(days=1), at_expiry=False)),
    models=dl.PerKey(champion=dl.Member("logistic", logistic)),
)
seconds: float = case.allowed_lateness
"""
WRONG = [
    ("lambda e: e.bad,", "lambda e: e.bda,", '"Settled" has no attribute "bda"'),
    ("lambda e: e.bad >", "lambda e: e.bda >", '"Settled" has no attribute "bda"'),
    ("description=", "descripton=", 'Unexpected keyword argument "descripton" for "mean"'),
    ("dl.mean(Settled, \"bad\"", "dl.mean(int, \"bad\"", '"mean" cannot be "int"'),
    ("over=dl.DAY", 'over="1d"', 'Argument "over" to "mean" has incompatible type "str"'),
    ("max_jump=dl.DAY", 'clock="walll"', 'Argument "clock" to "UseCase" has incompatible type'),
    ("lateness=timedelta(seconds=5)", 'lateness="5s"', 'Argument "lateness" to "UseCase"'),
    ('dl.Member("logistic", logistic)', "logistic", 'Argument "champion" to "PerKey"'),
    ("wait=timedelta(days=1)", 'wait="1d"', 'Argument "wait" to "Label" has incompatible type "str"'),
]  # fmt: skip


def mypy(folder: Path, files: list[Path]) -> str:
    """What mypy says of the files, strictly and without reading libraries, as of driftline itself."""
    settings = ("--config-file", str(ROOT / "pyproject.toml"))
    cache = ("--cache-dir", str(ROOT / ".mypy_cache/declarations"))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *settings, *cache, *map(str, files)],
        capture_output=True, text=True, cwd=folder, env={**os.environ, "MYPYPATH": str(ROOT)},
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One run over the good declaration and all wrong ones: most of its time is reading driftline, once."""
    folder = tmp_path_factory.mktemp("typed")
    texts = {"good": GOOD} | {f"wrong_{n}": GOOD.replace(a, b) for n, (a, b, _) in enumerate(WRONG)}
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    return mypy(folder, [folder / f"{name}.py" for name in texts])


def test_a_good_declaration_has_no_error(said: str) -> None:
    assert "wrong_0.py" in said
    assert "good.py" not in said


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_a_wrong_one_is_reported_where_it_is_wrong(said: str, number: int) -> None:
    before, _, expected = WRONG[number]
    assert before in GOOD
    lines = [line for line in said.splitlines() if line.startswith(f"wrong_{number}.py")]
    assert any(expected in line for line in lines), "\n".join(lines)
