"""The README's figures and picture, made from a run: python -m driftline.bench.readme

Runs the demo of the flights on a broker of its own, which takes some minutes, and writes docs/demo.json,
docs/report.svg and the README's blocks; with --blocks only the blocks, from demo.json and results.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import msgspec

from driftline.bench import table
from driftline.bench.cases import FLIGHTS
from driftline.bench.picture import picture
from driftline.bench.sample_run import sample_run
from driftline.infra.demo import demo_run
from driftline.infra.local.kafka import LocalStack
from driftline.infra.settings import Settings
from driftline.streams.code.hash_seed import pin

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
RESULTS = Path(__file__).parent / "results.json"
DEMO = ROOT / "docs" / "demo.json"
PICTURE = ROOT / "docs" / "report.svg"
COUNTS = ("events", "predictions", "labelled", "unlabelled", "void", "pending")
FIGURES = ("roc_auc", "log_loss", "brier", "accuracy", "kappa")


def demo_block(demo: dict[str, Any]) -> str:
    """The end of the demo's output: counts beside the members' figures, and the served answers' scores."""
    left = [f"{name:<11} {demo['counts'][name]:>11,}" for name in COUNTS]
    right = [
        _member("model", "role", [*(name.replace("_", " ") for name in FIGURES), "n"]),
        *(
            _member(name, entry["role"], [*(f"{entry[key]:z.4f}" for key in FIGURES), f"{entry['n']:,}"])
            for name, entry in demo["models"].items()
        ),
    ]
    lines = [f" {one:<23}        {other}" for one, other in zip_longest(left, right, fillvalue="")]
    served = demo["served"]
    return "\n".join(
        [
            "```",
            *(line.rstrip() for line in lines),
            f" digest {demo['digest']}",
            "```",
            "",
            "The challenger was promoted at each airport once the evidence sufficed: the answers that were",
            f"served score {served['roc_auc']:.4f} and {served['log_loss']:.4f}, and the report says when, "
            "why and what the promotion gained.",
            "",
        ]
    )


def _member(name: str, role: str, figures: Sequence[str]) -> str:
    widths = (7, 8, 6, 8, 6, 7)
    cells = (f"{figure:>{width}}" for figure, width in zip(figures, widths, strict=True))
    return f"{name:<8}  {role:<10}  {'  '.join(cells)}"


def with_block(text: str, name: str, content: str) -> str:
    """The text with the lines between the markers of that name replaced. Raises ValueError where it has no
    such markers."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, marker, rest = text.partition(begin)
    _, closing, after = rest.partition(end)
    if not (marker and closing):
        raise ValueError(f"there is no block between {begin.strip()} and {end}")
    return f"{before}{begin}{content}{end}{after}"


def rendered(text: str) -> str:
    """The README with its blocks as demo.json and results.json have them."""
    text = with_block(text, "demo", demo_block(json.loads(DEMO.read_text("utf-8"))))
    return with_block(text, "bench", table.markdown(json.loads(RESULTS.read_text("utf-8"))))


def write_blocks() -> None:
    """Write the README's blocks; from a wheel, which has none, nothing is written."""
    if README.exists():
        README.write_text(rendered(README.read_text("utf-8")), "utf-8")


def run_demo() -> None:
    """The demo as `driftline demo` runs it, on a broker of its own that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="driftline-readme-") as folder:
        settings = Settings(home=Path(folder))
        try:
            document = demo_run.show_case(FLIGHTS, settings)
            report = Path(document["report"]).read_text("utf-8")
        finally:
            LocalStack(settings.home).down(wipe=True)
    members = {
        name: {key: entry[key] for key in ("role", *FIGURES, "n")}
        for name, entry in document["models"].items()
    }
    demo = {
        "counts": {name: document[name] for name in COUNTS},
        "models": members,
        "served": {name: document["served"][name] for name in ("roc_auc", "log_loss")},
        "digest": document["digest"],
        "sample_run": msgspec.to_builtins(sample_run()),
    }
    DEMO.write_text(json.dumps(demo, indent=1) + "\n", "utf-8")
    PICTURE.write_text(picture(report, "The report of the demo"), "utf-8")


if __name__ == "__main__":
    pin()
    parser = argparse.ArgumentParser(prog="python -m driftline.bench.readme", description=__doc__)
    parser.add_argument("--blocks", action="store_true", help="write the README's blocks only")
    if not parser.parse_args().blocks:
        run_demo()
    write_blocks()
