"""What is to be said where labels do not come, or are not about the requests: the models then learn nothing,
and answer as they began, without any other sign."""

from __future__ import annotations

from collections.abc import Mapping

NOTABLE = 100
"""Labels without a request, or predictions without a label, from which on it is said."""


def without_labels(counts: Mapping[str, int], labels: Mapping[str, int]) -> list[str]:
    """The lines about labels that found no request, or did not come. `counts` are those of all records,
    `labels` what became of the labels since the fold was made."""
    found, lost = labels.get("matched", 0), labels.get("unmatched", 0)
    if lost >= NOTABLE and lost > found:
        return [
            f"{lost:,} of {lost + found:,} labels, voids and corrections found no request: none with their "
            "key was asked before them, or its wait was over. Nothing is learned from them"
        ]
    over = counts.get("unlabelled", 0)
    if over >= NOTABLE and not counts.get("labelled") and not counts.get("void"):
        return [f"none of the {over:,} predictions whose wait is over got a label: the models learn nothing"]
    return []
