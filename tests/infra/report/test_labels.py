"""What is said where labels do not come, or are not about the requests."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial

import pytest
import shop

from driftline import Event
from driftline.infra.report.labels import NOTABLE, without_labels
from driftline.infra.report.summary import print_summary
from driftline.streams.simulation import simulate as simulation
from driftline.streams.simulation.simulate import simulate


def events(name: str) -> Iterator[Event]:
    """Requests, an hour and more apart, and after each a label of the order that is named so."""
    for number in range(NOTABLE + 1):
        at = shop.START + timedelta(hours=number)
        yield shop.Asked(id=f"a{number}", at=at, order=f"o{number}", shop="s", amount=1.0)
        settled = at + timedelta(minutes=10)
        yield shop.Settled(id=f"l{number}", at=settled, order=name.format(number), shop="s", bad=1.0)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("o{}", None),
        ("order-{}", "101 of 101 labels, voids and corrections found no request"),
    ],
)
def test_labels_with_keys_that_nobody_asked_for_are_reported(
    name: str, said: str | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(simulation, "open_log", lambda *_: events(name))
    result = simulate(shop.orders)
    print_summary(result)
    written = capsys.readouterr().err
    assert result["labels"] == {
        "matched": 101 if said is None else 0,
        "unmatched": 0 if said is None else 101,
    }
    assert ("found no request" in written) == (said is not None)
    assert said is None or said in written


def test_predictions_without_any_label_are_reported() -> None:
    lines_for = partial(without_labels, labels={"matched": 0, "unmatched": 0})
    assert "none of the 100 predictions" in lines_for({"unlabelled": NOTABLE, "labelled": 0, "void": 0})[0]
    assert lines_for({"unlabelled": NOTABLE, "labelled": 0, "void": 1}) == []
    assert lines_for({"unlabelled": NOTABLE - 1, "labelled": 0, "void": 0}) == []


def test_some_labels_without_a_request_are_usual() -> None:
    counts = {"unlabelled": 0, "labelled": 300, "void": 0}
    assert without_labels(counts, {"matched": 300, "unmatched": 200}) == []
    assert without_labels(counts, {"matched": 3, "unmatched": NOTABLE - 1}) == []
