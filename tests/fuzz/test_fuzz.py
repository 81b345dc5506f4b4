"""Whatever is declared and whatever comes in, the fold continues, and is the same however it is cut."""

from __future__ import annotations

import inspect
import re
import sys
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.likeness import OWN, PASSING, UNORDERED
from tests.fuzz.trial import trial

numbers = st.integers(0, 2**31)


@settings(max_examples=60)
@given(
    st.randoms(use_true_random=False),
    st.lists(numbers, min_size=1, max_size=60),
    st.lists(st.integers(0, 60), max_size=4),
)
def test_no_record_stops_the_fold_and_no_cut_changes_it(
    case: Random, log: list[int], cuts: list[int]
) -> None:
    trial(case, log, cuts)


@settings(max_examples=3)
@given(st.randoms(use_true_random=False), st.lists(numbers, min_size=20, max_size=30))
def test_a_state_restored_after_every_record_goes_on_as_if_it_had_never_been_stored(
    case: Random, log: list[int]
) -> None:
    trial(case, log, range(len(log)))


def test_what_is_not_compared_is_an_attribute_of_the_fold() -> None:
    wanted = {name for name, _ in PASSING | UNORDERED}
    sources: dict[str, str] = {}
    for module in [module for name, module in sys.modules.items() if name.startswith(OWN)]:
        for name, kind in inspect.getmembers(module, inspect.isclass):
            if name in wanted and kind.__module__ == module.__name__:
                sources[name] = sources.get(name, "") + inspect.getsource(kind)
    for name, attribute in PASSING | UNORDERED:
        set_somewhere = re.search(rf"^\s+(self\.)?{attribute}\b", sources[name], re.MULTILINE)
        assert set_somewhere, f"{name} has no {attribute}"
