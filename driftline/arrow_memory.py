"""Bytes for Arrow to read, in memory that is Arrow's own."""

from __future__ import annotations

import pyarrow as pa


def arrow_reader(content: bytes) -> pa.BufferReader:
    """A file in memory that Arrow reads; `content` is copied.

    Arrow's threads may drop the last reference to what they read when the process already ends. If that is a
    Python object, the thread waits for an interpreter that is gone: the process aborts ("terminate called
    without an active exception") or hangs, after all of its work is done.

    >>> from pyarrow import csv
    >>> csv.read_csv(arrow_reader(b"shop,price\\nberlin,3\\n")).to_pylist()
    [{'shop': 'berlin', 'price': 3}]
    """
    sink = pa.BufferOutputStream()
    sink.write(content)
    return pa.BufferReader(sink.getvalue())
