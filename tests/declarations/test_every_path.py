"""What a declaration accepts works on every path: fold, any JSON, client, Feast, history, training sets."""

from __future__ import annotations

import json
import os
from datetime import UTC, date, datetime
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import pytest
import typed
from pyarrow import parquet
from typed import KEYS, Level, Region, code_of, readings

import driftline as dl
from driftline.features.feast.registry import OnlineStoreRepo
from driftline.features.feast.repository_location import RepositoryLocation
from driftline.features.online.client import FeatureClient
from driftline.features.online.writer import RowStore
from driftline.infra.settings import Settings
from driftline.streams.fold.processor import PartitionProcessor
from driftline.streams.records.outputs import Outputs
from driftline.streams.simulation.sources import LogRecord, with_closing_clock
from tests.commands.forked_command import completed
from tests.streams.archive.archived import archive_of, logs_of

CASES = Path(__file__).parents[1] / "cases"
TEXTS = {
    "region": "north", "flag": "true", "when": "2024-05-06T08:00:00Z", "code": str(code_of(0)),
    "day": "2024-05-06", "number": "9007199254740993", "unit": "m", "side": "left",
}  # fmt: skip
VALUES: dict[str, Any] = {
    "region": Region.NORTH, "flag": True, "when": datetime(2024, 5, 6, 8, tzinfo=UTC), "code": code_of(0),
    "day": date(2024, 5, 6), "number": 2**53 + 1, "unit": "m", "side": "left",
}  # fmt: skip


def folded(log: list[LogRecord], partition: int) -> Outputs:
    """One fold that is stopped, pickled and restored after every record; with rows."""
    processor, out = PartitionProcessor(readings, partition, rows=True), Outputs()
    for record in log:
        out.extend(processor.step([record]))
        processor = PartitionProcessor.restored(readings, partition, processor.snapshot(), rows=True)
    return out


@pytest.fixture(scope="module")
def north() -> Outputs:
    """What the partition of the north puts out."""
    logs = logs_of(readings, typed.events())
    (partition,) = (n for n, log in enumerate(logs) if any(record.key == b"north" for record in log))
    return folded(logs[partition], partition)


def test_the_fold_takes_all_of_them_whole_or_in_pieces(north: Outputs) -> None:
    predictions = [json.loads(output.value) for output in north.predictions]
    assert not north.dead_letters
    assert not [
        change for change in (json.loads(o.value) for o in north.models) if "quarantine" in str(change)
    ]
    first, last = predictions[0], predictions[-1]
    assert {name: str(value) for name, value in first["keys"].items()} | {"flag": "true"} == TEXTS
    assert first["features"]["level"] == 1
    assert first["features"]["twice"] == 2
    assert first["features"]["area"] == first["features"]["home"] == "north"
    assert last["features"]["prices"] == 1.0
    assert last["features"]["sides"] == 1
    assert {prediction["model"]["name"] for prediction in predictions} == {"logistic"}


def test_the_online_store_has_them_by_the_text_of_the_json(north: Outputs, tmp_path: Path) -> None:
    place = RepositoryLocation(tmp_path / "feast", "typed")
    repo = OnlineStoreRepo(place, readings.views(), readings.on_demand_views())
    repo.apply()
    RowStore(repo).put(north.rows)
    view = f"typed_by_{'_'.join(KEYS)}"
    with FeatureClient(readings, place) as client:
        by_value, by_text = client.get(view, VALUES), client.get(view, TEXTS)
        with pytest.raises(dl.FeaturesError, match="which is float"):
            client.get(view, {**TEXTS, "number": 1.5})  # type: ignore[dict-item]
    assert by_value["reads"] == by_text["reads"] == 1
    found = repo.store.get_online_features(features=[f"{view}:reads"], entity_rows=[TEXTS]).to_dict()
    assert found["reads"] == [1]


def test_history_and_training_set_have_them(tmp_path: Path) -> None:
    uri = Settings(home=tmp_path).archive_uri("typed")
    archive_of(readings, with_closing_clock(readings, typed.events()), uri, 50)
    environment = {**os.environ, "DRIFTLINE_HOME": str(tmp_path), "PYTHONPATH": str(CASES)}
    for command in (["history"], ["training-set", "--out", str(tmp_path / "set.parquet"), "--json"]):
        done = completed("features", command[0], "typed:readings", *command[1:], environment=environment)
        assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["rows"], report["share"]) == (60, 1.0)
    table = parquet.read_table(tmp_path / "set.parquet")
    first = next(row for row in table.to_pylist() if row["prediction_id"] == "r0:bad")
    assert (first["key_region"], first["key_number"], first["level"]) == ("north", 2**53 + 1, Level.LOW.value)


class Colour(IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("kind", "said", "text"),
    [
        (str, "é x", "é x"), (int, 5, "5"), (int, 2**63 - 1, "9223372036854775807"), (bool, False, "false"),
        (Region, "north", "north"), (Colour, 1, "1"), (Literal["a", "b"], "a", "a"),
        (date, "2024-05-06", "2024-05-06"), (datetime, "2024-05-06T10:00:00+02:00", "2024-05-06T08:00:00Z"),
        (datetime, "2024-05-06T08:00:00.250Z", "2024-05-06T08:00:00.250000Z"),
        (UUID, "5f3c1a52-7a4e-4d0e-9d7c-3a1b6f8e2c11", "5f3c1a52-7a4e-4d0e-9d7c-3a1b6f8e2c11"),
    ],
)  # fmt: skip
def test_a_record_key_is_the_text_in_the_json_whoever_writes_it(kind: Any, said: Any, text: str) -> None:
    asked = type("Asked", (dl.Event,), {"__annotations__": {"k": kind}, "__module__": __name__}, tag="asked")
    case = dl.UseCase(
        "keys", key="k", events=[asked], features={},
        task=dl.Anomaly("odd", ask=asked, wait=dl.DAY),
        models=dl.PerKey(champion=dl.Member("half_space", typed.logistic)),
    )  # fmt: skip
    raw = json.dumps({"type": "asked", "id": "1", "at": "2024-05-06T08:00:00Z", "k": said}).encode()
    event = case.codec().decode(raw, text.encode())
    assert case.codec().key(event) == text.encode()
    with pytest.raises(dl.Refused, match="key"):
        case.codec().decode(raw, text.encode() + b"?")


@pytest.mark.parametrize("kind", [float, str | int, list[int], bytes | float])
def test_what_has_no_one_text_is_no_partition_key(kind: Any) -> None:
    asked = type("Asked", (dl.Event,), {"__annotations__": {"k": kind}, "__module__": __name__}, tag="asked")
    with pytest.raises(dl.DeclarationError, match="Asked"):
        dl.UseCase(
            "keys", key="k", events=[asked], features={},
            task=dl.Anomaly("odd", ask=asked, wait=dl.DAY),
            models=dl.PerKey(champion=dl.Member("half_space", typed.logistic)),
        )  # fmt: skip
