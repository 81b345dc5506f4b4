"""What Arrow reads is in memory of its own."""

from __future__ import annotations

import sys

from driftline.arrow_memory import arrow_reader


def test_a_reader_has_a_copy_and_keeps_no_python_object() -> None:
    content = b"part" * 1_000
    references = sys.getrefcount(content)
    reader = arrow_reader(content)
    assert sys.getrefcount(content) == references
    assert reader.read() == content
