"""Tables are read as people have them: delimiters, encodings, compression, units of time, zones."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from driftline.online_models.members.member import Member, PerKey
from driftline.online_models.tasks.task import Binary, Label
from driftline.streams.declare.events import Event
from driftline.streams.declare.usecase import UseCase
from driftline.streams.errors import DeclarationError
from driftline.streams.simulation.sources import open_source
from driftline.streams.simulation.tables import Reading, UnreadableTable, rows

AT = datetime(2026, 3, 1, 8, 30, tzinfo=UTC)


class Paid(Event, tag="paid"):
    shop: str
    amount: float
    note: str | None = None
    due: datetime | None = None


class Settled(Event, tag="settled"):
    shop: str
    good: bool


def case() -> UseCase:
    from river import linear_model

    return UseCase(
        "payments",
        key="shop",
        events=[Paid, Settled],
        features={},
        task=Binary("good", ask=Paid, label=Label(Settled, on="shop", value=lambda s: s.good, wait=60.0)),
        models=PerKey(champion=Member("logistic", linear_model.LogisticRegression)),
    )


def paid(path: Path, reading: Reading | None = None) -> list[Paid]:
    return list(open_source(case(), str(path), None, reading or Reading()))  # type: ignore[arg-type]


TEXT = "type;id;at;shop;amount;note\npaid;1;2026-03-01T08:30:00Z;Café Zoë;12.5;\n"


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode(),
        lambda text: text.encode("utf-8-sig"),
        lambda text: text.encode("utf-16"),
        lambda text: text.encode("cp1252"),
        lambda text: text.replace(";", ",").encode(),
        lambda text: text.replace(";", "\t").encode(),
        lambda text: text.replace(";", " | ").replace(" |", "|").encode(),
        lambda text: text.replace("\n", "\r\n").encode(),
    ],
    ids=["utf-8", "byte order mark", "utf-16", "cp1252", "comma", "tab", "bar and blank", "windows lines"],
)
def test_delimiters_and_encodings_give_the_same_event(encode: Callable[[str], bytes], tmp_path: Path) -> None:
    path = tmp_path / "payments.csv"
    path.write_bytes(encode(TEXT))
    assert paid(path) == [Paid(id="1", at=AT, shop="Café Zoë", amount=12.5)]


def test_an_encoding_may_be_named(tmp_path: Path) -> None:
    path = tmp_path / "payments.csv"
    path.write_bytes(TEXT.replace("Café Zoë", "Łódź").encode("iso8859-2"))
    assert paid(path, Reading(encoding="iso8859-2"))[0].shop == "Łódź"
    with pytest.raises(UnreadableTable, match=r"payments\.csv is not utf-8 text .*name its encoding"):
        paid(path, Reading(encoding="utf-8"))
    with pytest.raises(UnreadableTable, match="'latin-99' is no encoding"):
        paid(path, Reading(encoding="latin-99"))


def test_compressed_text_is_read(tmp_path: Path) -> None:
    path = tmp_path / "payments.csv.gz"
    path.write_bytes(gzip.compress(TEXT.encode()))
    assert paid(path)[0].amount == 12.5
    path = tmp_path / "payments.jsonl.gz"
    path.write_bytes(gzip.compress(case().codec().encode(Paid(id="1", at=AT, shop="a", amount=1.0)) + b"\n"))
    assert paid(path)[0].shop == "a"


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Paris"])
def test_parquet_has_times_of_any_unit_and_zone(unit: str, zone: str | None, tmp_path: Path) -> None:
    stored = pa.array([AT.replace(tzinfo=None)]).cast(pa.timestamp(unit, zone))
    table = pa.table(
        {
            "type": ["paid"],
            "id": ["1"],
            "at": stored,
            "shop": pa.array(["a"]).dictionary_encode(),
            "amount": pa.array([Decimal("12.50")]),
            "due": pa.array([AT.date()]),
            "note": pa.array([float("nan")]),
        }
    )
    path = tmp_path / "payments.parquet"
    parquet.write_table(table, path)
    (event,) = paid(path, Reading(zone="UTC"))
    assert (event.at, event.shop, event.amount, event.note) == (AT, "a", 12.5, None)
    assert event.due == datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize("name", ["payments.csv", "payments.jsonl", "payments.parquet"])
def test_a_time_without_a_zone_needs_a_declared_one(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name.endswith(".csv"):
        path.write_text("type,id,at,shop,amount\npaid,1,2026-03-01 09:30:00,a,1\n")
    elif name.endswith(".jsonl"):
        path.write_text('{"type":"paid","id":"1","at":"2026-03-01T09:30:00","shop":"a","amount":1}\n')
    else:
        row = {"type": "paid", "id": "1", "at": datetime(2026, 3, 1, 9, 30), "shop": "a", "amount": 1.0}
        parquet.write_table(pa.Table.from_pylist([row]), path)
    with pytest.raises(UnreadableTable, match=r"(row|line) \d+: .*(--zone|timezone)"):
        paid(path)
    (event,) = paid(path, Reading(zone="Europe/Paris"))
    assert event.at == AT
    with pytest.raises(DeclarationError, match="'Paris' is no time zone"):
        paid(path, Reading(zone="Paris"))


def test_a_time_with_a_zone_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "payments.csv"
    path.write_text("type,id,at,shop,amount\npaid,1,2026-03-01T09:30:00+01:00,a,1\n")
    (event,) = paid(path, Reading(zone="Asia/Tokyo"))
    assert event.at == AT
    assert event.at.astimezone(timezone(timedelta(hours=1))).hour == 9


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "type,id,at,shop,amount\npaid,1,1 March,a,1\n",
            "row 2: at is '1 March', which is no time of ISO 8601",
        ),
        ("type,id,at,shop,amount\npaid,1,2026-03-01T00:00:00Z,a,x\n", r"row 2: .*float.*\$\.amount"),
        ("type,id,at,shop,amount\npaid,1,2026-03-01T00:00:00Z,a,1,2\n", "line 2: 6 values, .* has 5 names"),
        ("type,type,id\npaid,paid,1\n", "the header has 'type' more than once"),
        ("type,id,at,shop,amount\nsold,1,2026-03-01T00:00:00Z,a,1\n", "row 2: .*sold"),
    ],
)
def test_what_is_wrong_is_said_with_its_row_and_column(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "payments.csv"
    path.write_text(text)
    with pytest.raises(UnreadableTable, match=message):
        paid(path)


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    (tmp_path / "a.xlsx").write_bytes(b"")
    with pytest.raises(UnreadableTable, match=r"a\.parquet: .*Parquet"):
        list(rows(tmp_path / "a.parquet"))
    with pytest.raises(UnreadableTable, match=r"a\.xlsx: only \.csv"):
        list(rows(tmp_path / "a.xlsx"))
    with pytest.raises(UnreadableTable, match="does not exist"):
        list(rows(tmp_path / "none.csv"))
