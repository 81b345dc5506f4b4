"""The README's figures and picture are those that were measured, and those that this code gives."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from driftline.bench.picture import picture
from driftline.bench.readme import DEMO, PICTURE, README, RESULTS, rendered, with_block
from driftline.bench.sample_run import SampleRun, sample_run


@pytest.fixture(scope="module")
def here() -> SampleRun:
    return sample_run()


def recorded(path: Any, here: SampleRun) -> SampleRun:
    """The sample run beside recorded figures; its hashes say nothing where arithmetic is another."""
    known = SampleRun(**json.loads(path.read_text())["sample_run"])
    if known.arithmetic != here.arithmetic:
        pytest.skip(f"recorded under the arithmetic {known.arithmetic}, which is {here.arithmetic} here")
    return known


def test_the_blocks_of_the_readme_are_the_recorded_figures() -> None:
    text = README.read_text()
    assert rendered(text) == text, "run `python -m driftline.bench.readme --blocks`"


def test_the_demo_of_the_readme_is_of_this_code(here: SampleRun) -> None:
    assert recorded(DEMO, here) == here, "the demo's figures or its report are others now: run `make readme`"


def test_the_bench_of_the_readme_is_of_a_fold_with_the_same_bytes(here: SampleRun) -> None:
    assert recorded(RESULTS, here).digest == here.digest, (
        "the fold puts out other bytes now: run `make bench`"
    )


def test_the_picture_is_of_the_demo_and_well_formed() -> None:
    root = ElementTree.parse(PICTURE).getroot()
    shown = " ".join(root.itertext())
    demo = json.loads(DEMO.read_text())
    assert demo["digest"] in shown
    assert f"{demo['counts']['predictions']:,}" in shown
    assert "docs/report.svg" in README.read_text()


def test_a_picture_keeps_the_pages_text_and_style() -> None:
    page = (
        "<html><head><style>body { color: red; }\np > b { x: y; }</style></head>"
        "<body><main><details open><p>a&nbsp;&lt;b&gt; &amp; c</p></details></main></body></html>"
    )
    root = ElementTree.fromstring(picture(page, "less < more"))
    shown = "".join(root.itertext())
    assert "a\N{NO-BREAK SPACE}<b> & c" in shown
    assert ".page { color: red; }" in shown
    assert "p > b" in shown
    assert "less < more" in shown


def test_a_block_is_replaced_and_nothing_else() -> None:
    text = "before\n<!-- bench -->\nformer\n<!-- /bench -->\nafter\n<!-- demo -->\n<!-- /demo -->\n"
    assert with_block(text, "bench", "new\n") == text.replace("former", "new")


def test_a_text_without_the_block_is_refused() -> None:
    with pytest.raises(ValueError, match="no block between <!-- bench --> and <!-- /bench -->"):
        with_block("<!-- bench -->\n", "bench", "new\n")
