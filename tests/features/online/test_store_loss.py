"""Feast's own commands do no harm, and an online store that has lost its rows gets all of them again."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from contextlib import chdir
from pathlib import Path

import pytest
from click.testing import CliRunner
from feast.cli.cli import cli
from redis import Redis
from shops import BY_SHOP, price, put, repo_at

from driftline.features.feast.registry import OnlineStoreRepo
from driftline.features.online.writer import OnlineWriter
from driftline.features.state.online_view import RowKey, StampedRow

ROWS: dict[RowKey, StampedRow] = {(BY_SHOP, (shop,)): (1e9, {"price_1h": 2.5}) for shop in "ab"}


def feast(repo: OnlineStoreRepo, *arguments: str) -> str:
    """One of Feast's own commands, in this process: a new one takes four seconds to import Feast."""
    path = sys.path.copy()
    try:
        with chdir(repo.place.path):
            done = CliRunner().invoke(cli, arguments)
    finally:
        sys.path[:] = path
        sys.modules.pop("definitions", None)  # those of the next repository have the same name
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def repo(tmp_path: Path, online_store: str) -> OnlineStoreRepo:
    made = repo_at(tmp_path / "feast", online_store=online_store)
    made.apply()
    return made


def again(repo: OnlineStoreRepo) -> OnlineStoreRepo:
    """The same repository, as another process opens it."""
    return repo_at(repo.place.path, online_store=repo.place.online_store)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.05)


async def written_again(repo: OnlineStoreRepo, lose: Callable[[OnlineWriter], Awaitable[None]]) -> None:
    """The rows are written, lost, and offered again once the writer has noticed."""
    writer = OnlineWriter(repo)
    await writer.offer(ROWS)
    await writer.written(writer.offered())
    before = writer.incarnation
    await lose(writer)
    await until(lambda: writer.incarnation != before)
    await writer.offer(ROWS)
    await writer.written(writer.offered())
    await writer.close()


def test_feasts_own_plan_and_apply_change_nothing(repo: OnlineStoreRepo) -> None:
    put(repo, {"a": (1e9, {"price_1h": 2.5})})
    said = feast(repo, "plan")
    assert "Deleted" not in said
    assert "Deleted" not in feast(repo, "apply")
    assert {change.action for change in again(repo).plan()} == {"keep"}
    assert price(repo, "a") == 2.5


def test_a_store_that_was_torn_down_is_created_again_and_said(
    repo: OnlineStoreRepo, caplog: pytest.LogCaptureFixture
) -> None:
    async def torn_down(writer: OnlineWriter) -> None:
        await asyncio.to_thread(feast, repo, "teardown")

    asyncio.run(written_again(repo, torn_down))
    assert [price(repo, shop) for shop in "ab"] == [2.5, 2.5]
    assert "has lost rows: its tables are created again" in caplog.text
    assert {change.action for change in again(repo).plan()} == {"keep"}


@pytest.mark.parametrize("harm", ["file", "folder", "table"])
def test_a_file_or_table_that_goes_is_created_again(harm: str, tmp_path: Path) -> None:
    repo = repo_at(tmp_path / "feast")
    repo.apply()

    async def harmed(writer: OnlineWriter) -> None:
        if harm == "file":
            repo.place.online_file.unlink()
        elif harm == "folder":
            shutil.rmtree(repo.place.path)
        else:
            with sqlite3.connect(repo.place.online_file) as other:
                other.execute("DROP TABLE shops_shops_by_shop")
        await writer.offer(ROWS)  # what is being written then may go with the file

    asyncio.run(written_again(repo, harmed))
    assert [price(repo, shop) for shop in "ab"] == [2.5, 2.5]


def test_every_writer_learns_of_a_loss_that_one_of_them_mended(repo: OnlineStoreRepo) -> None:
    async def run() -> None:
        first, second = OnlineWriter(repo), OnlineWriter(again(repo))
        await until(lambda: "" not in (first.incarnation, second.incarnation))
        before = first.incarnation
        assert second.incarnation == before
        if repo.place.is_sqlite:
            repo.place.online_file.unlink()
        else:
            with Redis.from_url(repo.place.online_store) as client:
                client.flushall()
        await until(lambda: first.incarnation == second.incarnation != before)
        await first.close()
        await second.close()

    asyncio.run(run())


def test_a_store_that_kept_its_rows_keeps_its_incarnation(repo: OnlineStoreRepo) -> None:
    async def incarnation() -> str:
        writer = OnlineWriter(again(repo))
        await until(lambda: writer.incarnation != "")
        await writer.close()
        return writer.incarnation

    assert asyncio.run(incarnation()) == asyncio.run(incarnation())
