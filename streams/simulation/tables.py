"""Rows of a table in a file: delimited text, JSON lines or Parquet, compressed or not.

One reader for all commands that take tables. Values of delimited text are text; those of the other formats
have the types in the file.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from driftline.streams.errors import StreamsError

DELIMITED = (".csv", ".tsv", ".txt")
LINES = (".jsonl", ".ndjson")
PARQUET = ".parquet"
READABLE_SUFFIXES = (*DELIMITED, *LINES, PARQUET)
"""Ends of the names of files that can be read."""
COMPRESSED = (".gz", ".bz2", ".zst", ".lz4")
"""Suffixes that may follow that of a text file."""
DELIMITERS = ",;\t|"
_SAMPLE = 262_144
"""Bytes from which an encoding is guessed."""
_BATCH = 8192
_BOM = b"\xef\xbb\xbf"

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Reading:
    """How a table is to be read: `zone`, an IANA name, is that of times without one; `encoding` that of
    delimited text, detected when None."""

    zone: str | None = None
    encoding: str | None = None


class UnreadableTable(StreamsError):
    """A file that is not a table, or has a row that cannot be read; the message says where and why."""


def format_of(path: Path) -> str:
    """The suffix that states the file's format, without that of a compression.

    >>> format_of(Path("rides.CSV.gz"))
    '.csv'
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def is_table(path: Path) -> bool:
    """Whether the file's suffix is that of a table."""
    return format_of(path) in READABLE_SUFFIXES


def rows(path: Path, encoding: str | None = None) -> Iterator[tuple[int, Row]]:
    """The rows of a file, each with its number: its line, in Parquet its place from 1.

    `encoding` is that of delimited text; it is detected when None. A delimited file has a header, and a
    cell without text is None. Raises UnreadableTable.
    """
    kind = format_of(path)
    try:
        if kind in DELIMITED:
            yield from _delimited(path, encoding)
        elif kind in LINES:
            yield from _objects(path)
        elif kind == PARQUET:
            yield from _parquet(path)
        else:
            raise UnreadableTable(
                f"{path}: only {', '.join(READABLE_SUFFIXES[:-1])} and {READABLE_SUFFIXES[-1]} can be read"
            )
    except FileNotFoundError:
        raise UnreadableTable(f"{path} does not exist") from None
    except OSError as error:
        raise UnreadableTable(f"{path} cannot be read: {error.strerror or error}") from None


def lines(stream: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Lines that are not empty, with their numbers from 1; a byte order mark at the start is left out."""
    for number, line in enumerate(stream, 1):
        text = (line.removeprefix(_BOM) if number == 1 else line).strip()
        if text:
            yield number, text


def open_bytes(path: Path) -> io.BufferedReader:
    """The content of a file, decompressed if its suffix says that it is compressed."""
    if not path.exists():  # pyarrow's own message names no file
        raise FileNotFoundError(path)
    import pyarrow as pa

    stream = pa.input_stream(str(path), compression="detect" if path.suffix.lower() in COMPRESSED else None)
    return io.BufferedReader(stream, _SAMPLE)


def encoding_of(path: Path) -> str:
    """The encoding of a text file: UTF-8 if its first bytes are, else the likeliest."""
    with open_bytes(path) as stream:
        sample = stream.read(_SAMPLE)
    # a sample may end within a character: its last line is left out
    whole = sample if len(sample) < _SAMPLE else sample[: sample.rfind(b"\n") + 1]
    for mark, name in ((_BOM, "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if sample.startswith(mark):
            return name
    try:
        whole.decode()
    except UnicodeDecodeError:
        from charset_normalizer import from_bytes

        guess = from_bytes(whole).best()
        if guess is None:
            raise UnreadableTable(f"{path} is in no known encoding: name it") from None
        return guess.encoding
    return "utf-8"


def _delimited(path: Path, encoding: str | None) -> Iterator[tuple[int, Row]]:
    used = encoding or encoding_of(path)
    try:
        with io.TextIOWrapper(open_bytes(path), encoding=used, newline="") as text:
            yield from _cells(path, text)
    except LookupError:
        raise UnreadableTable(f"{path}: {used!r} is no encoding that Python knows") from None
    except UnicodeDecodeError as error:
        raise UnreadableTable(
            f"{path} is not {used} text (byte {error.object[error.start]:#04x}): name its encoding"
        ) from None


def _cells(path: Path, text: IO[str]) -> Iterator[tuple[int, Row]]:
    header = text.readline()
    delimiter = max(DELIMITERS, key=header.count)
    reader = csv.reader(text, delimiter=delimiter, skipinitialspace=True)
    names = next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), [])
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UnreadableTable(f"{path}: the header has {', '.join(map(repr, twice))} more than once")
    try:
        for cells in reader:
            number = reader.line_num + 1
            if len(cells) > len(names):
                raise UnreadableTable(
                    f"{path}, line {number}: {len(cells)} values, but the header has {len(names)} names"
                )
            if cells:
                padded = [*cells, *[""] * (len(names) - len(cells))]
                yield number, {name: cell or None for name, cell in zip(names, padded, strict=True)}
    except csv.Error as error:
        raise UnreadableTable(f"{path}, line {reader.line_num + 1}: {error}") from None


def _objects(path: Path) -> Iterator[tuple[int, Row]]:
    decoder = msgspec.json.Decoder()
    with open_bytes(path) as stream:
        for number, line in lines(stream):
            try:
                row = decoder.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise UnreadableTable(f"{path}, line {number}: {error}") from None
            if not isinstance(row, dict):
                raise UnreadableTable(
                    f"{path}, line {number}: {type(row).__name__} where an object is needed"
                )
            yield number, row


def _parquet(path: Path) -> Iterator[tuple[int, Row]]:
    from pyarrow import ArrowException, parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH):
                for row in _plain(batch).to_pylist():
                    number += 1
                    yield number, row
    except ArrowException as error:
        where = f", after row {number:,}" if number else ""
        raise UnreadableTable(f"{path}{where}: {error}") from None


def _plain(batch: Any) -> Any:
    """The batch with times in microseconds, as Python has them, and decimal numbers as floats."""
    import pyarrow as pa

    fields = []
    for field in batch.schema:
        kind = field.type
        if pa.types.is_timestamp(kind):
            kind = pa.timestamp("us", kind.tz)
        elif pa.types.is_decimal(kind):
            kind = pa.float64()
        fields.append(field.with_type(kind))
    return batch.cast(pa.schema(fields), safe=False)
