"""Failures that end by themselves, and the report of how long they lasted."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from driftline.features.online.transient_failures import LONGEST_PAUSE, Outage, is_transient


def sqlite_error(path: Path, statement: str) -> sqlite3.Error:
    with pytest.raises(sqlite3.Error) as caught:
        sqlite3.connect(path, timeout=0).execute(statement)
    return caught.value


def redis_error(name: str, *bases: type[Exception]) -> Exception:
    error: Exception = type(name, bases or (Exception,), {"__module__": "redis.exceptions"})("away")
    return error


def test_a_locked_store_or_one_out_of_reach_passes(tmp_path: Path) -> None:
    lock = sqlite3.connect(tmp_path / "online.db")
    lock.execute("BEGIN EXCLUSIVE")
    assert is_transient(sqlite_error(tmp_path / "online.db", "BEGIN IMMEDIATE"))
    with pytest.raises(sqlite3.OperationalError) as caught:
        sqlite3.connect(tmp_path / "nowhere" / "online.db")
    assert is_transient(caught.value)
    assert is_transient(ConnectionRefusedError())
    assert is_transient(TimeoutError())
    assert is_transient(redis_error("ConnectionError"))
    assert is_transient(type("Refused", (type(redis_error("TimeoutError")),), {})())


def test_bad_statements_files_and_values_do_not_pass(tmp_path: Path) -> None:
    assert not is_transient(sqlite_error(tmp_path / "online.db", "SELECT * FROM nothing"))
    assert not is_transient(sqlite_error(tmp_path / "online.db", "SELEC"))
    (tmp_path / "text.db").write_text("no database at all, but long enough to be looked at" * 20)
    assert not is_transient(sqlite_error(tmp_path / "text.db", "SELECT * FROM sqlite_schema"))
    assert not is_transient(redis_error("ResponseError"))
    assert not is_transient(TypeError())


def test_attempts_of_an_outage_become_rare(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage("the store")
    pauses = [outage.failed(OSError("away")) for _ in range(12)]
    assert pauses == sorted(pauses)
    assert pauses[0] < 0.1
    assert pauses[-1] == LONGEST_PAUSE
    outage.ended()
    assert [record.message.split(" after")[0] for record in caplog.records] == [
        "the store fails, trying again: OSError: away",
        "the store works again",
    ]
