"""What a partition's lag says while records are appended."""

from __future__ import annotations

from unittest import mock

from driftline.infra.local import lag


class BusyLog:
    """A partition of committed records to which one is appended at each question."""

    def __init__(self, open_since: int | None = None) -> None:
        self._end = 10
        self._open_since = open_since

    def __enter__(self) -> BusyLog:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def topic(self, name: str) -> tuple[str, list[int]]:
        return name, [0]

    def _appended(self) -> int:
        self._end += 1
        return self._end

    def extent(self, topic: str, partition: int) -> tuple[int, int]:
        end = self._appended()
        return 0, end if self._open_since is None else self._open_since

    def high_watermark(self, topic: str, partition: int) -> int:
        return self._appended()

    def next_record(self, topic: str, partition: int, begin: int, end: int) -> int | None:
        return begin if begin < end else None

    def open_transaction(self, topic: str, partition: int) -> str:
        return "copier"


def lag_of(log: BusyLog) -> lag.Lag:
    with mock.patch.object(lag, "LogReader", return_value=log):
        return lag.lags("", "events", {0: 4})[0]


def test_records_that_come_while_the_lag_is_asked_for_wait_for_no_transaction() -> None:
    assert lag_of(BusyLog()) == (8, 0, "")


def test_records_behind_an_open_transaction_wait_for_it() -> None:
    assert lag_of(BusyLog(open_since=6)) == (2, 5, "copier")
