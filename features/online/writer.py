"""Newest feature values to Feast's online store.

Rows go to the plug-in store as they are: `FeatureStore.push` costs 5 ms a row, protos through
Feast's provider some 60 us, this 10 to 15.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future

from driftline.features.errors import FeaturesError
from driftline.features.feast.registry import OnlineStoreRepo
from driftline.features.online.transient_failures import Outage, is_lost, is_transient
from driftline.features.state.online_view import RowKey, StampedRow

log = logging.getLogger("driftline.online")

MOST_WAITING = 50_000
"""Keys that may wait to be written; beyond, `offer` waits."""
STORE_CHECK_EVERY = 2.0
"""Seconds between looks whether the store still has what was written."""
SHORTEST_WRITE_PAUSE = 0.1
LONGEST_WRITE_PAUSE = 1.5
COST_SHARE = 0.05
"""Between two writes the rows of a key fall together, so the pause grows with what the writes cost:
up to this share of one core goes to writing while `LONGEST_WRITE_PAUSE` allows it (all in seconds)."""
CLOSE_WITHIN = 3.0


class RowStore:
    """Writes rows at once, on the caller's thread; older ones than the store's are left out by it."""

    def __init__(self, repo: OnlineStoreRepo) -> None:
        self._repo = repo
        self._open()
        self.incarnation = ""
        """The token of what the store has been since it was empty; "" before the first look at it."""
        self.first_incarnation = ""

    def _open(self) -> None:
        store = self._repo.store
        self._config = store.config
        self._online_store = store._get_provider().online_store
        self._views = [store.get_feature_view(name) for name in self._repo.views]
        self._writers = {
            view.name: self._online_store.rows_writer(self._config, feast_view, view)
            for view, feast_view in zip(self._repo.views.values(), self._views, strict=True)
        }

    def look(self) -> None:
        """Create tables and registry again where they are missing; `incarnation` is another one then."""
        incarnation = self._online_store.incarnation(self._config, self._views)
        if incarnation == self.incarnation:
            return
        if incarnation is None:
            if self.incarnation:
                log.warning(
                    "the online store has lost rows: its tables are created again, every row is written again"
                )
                self.disconnect()
                self._repo.apply_anew()
                self._open()
                self._online_store.end(self._config)  # a table may be missing though the token is not
            incarnation = self._online_store.begin(self._config)
        self.incarnation = incarnation
        self.first_incarnation = self.first_incarnation or incarnation

    def put(self, rows: Mapping[RowKey, StampedRow]) -> None:
        """Write rows, durably once this returns.

        A feature that a row lacks is written as missing, so that no earlier value outlives it. Raises
        the store's own error; then some of the rows may be written, and writing all again is right.
        """
        by_view: dict[str, list[tuple[RowKey, StampedRow]]] = {}
        for key, row in rows.items():
            by_view.setdefault(key[0], []).append((key, row))
        for name, entries in by_view.items():
            self._writers[name].write(entries)

    def disconnect(self) -> None:
        """Close the store; the next `put` connects again."""
        self._online_store.disconnect()


class OnlineWriter:
    """Writes the newest row of each key in micro-batches, on a thread of its own.

    Of waiting rows only the newest of a key is kept, and the store keeps a newer one against an
    older one of any process. The first row after a pause is written at once, later ones wait for
    the next pause to end.

    A store that is locked, full or out of reach (`driftline.features.online.transient_failures`) is tried
    again for as long as it takes, with growing pauses and a warning now and then; no row is lost, and memory
    stays bounded because `offer` waits. Any other failure ends the writer and comes out of `offer`,
    `written` and `close`.
    """

    def __init__(self, repo: OnlineStoreRepo) -> None:
        self._views = repo.views
        self._rows = RowStore(repo)
        self._waiting: dict[RowKey, StampedRow] = {}
        self._taken: dict[RowKey, StampedRow] = {}
        self._changed = threading.Condition()
        self._hurry = False  # somebody waits: no pause
        self._closing = False
        self._abandoned = False
        self._offered = 0
        self._taken_up_to = 0
        self._durable = 0
        self._tickets: list[tuple[int, Future[None]]] = []
        self._error: FeaturesError | None = None
        self._looked = float("-inf")
        self._outage = Outage("the online store")
        self.rows_written = 0
        """Rows given to the store so far."""
        self._thread = threading.Thread(target=self._run, name="online-writer", daemon=True)
        self._thread.start()

    async def offer(self, rows: Mapping[RowKey, StampedRow]) -> None:
        """Take rows; returns at once unless too many wait.

        Raises FeaturesError when writing failed, after `close`, and for a view that is not declared.
        """
        for view, _ in rows:
            if view not in self._views:
                raise FeaturesError(f"a row of {view!r}, which is no view of this repository")
        with self._changed:
            self._raise_error()
            if self._closing:
                raise FeaturesError("online features were offered after the writer was closed")
            if rows and not self._waiting:
                self._changed.notify()
            _keep_newest(self._waiting, rows)
            self._offered += 1
        while len(self._waiting) + len(self._taken) > MOST_WAITING:
            with self._changed:
                self._hurry = True
                self._changed.notify()
            await asyncio.sleep(0.01)
            self._raise_error()

    @property
    def incarnation(self) -> str:
        """The token of what the store has been since it was empty: with another one, every row is to be
        offered again. It is "" as long as the store has not been reached."""
        return self._rows.incarnation

    @property
    def first_incarnation(self) -> str:
        """What `incarnation` was when it was first known."""
        return self._rows.first_incarnation

    @property
    def rows_waiting(self) -> int:
        """Rows that are still to be written."""
        return len(self._waiting) + len(self._taken)

    @property
    def failing_seconds(self) -> float:
        """For how long the store has taken no rows; 0 while it does."""
        return self._outage.seconds

    def offered(self) -> int:
        """A ticket for `written`: the number of offers so far."""
        return self._offered

    async def written(self, ticket: int) -> None:
        """Return when everything offered up to the ticket is durable in the store, writing it at once.

        A store that is out of reach is waited for. Raises FeaturesError when writing failed or ended.
        """
        with self._changed:
            if self._durable >= ticket:
                return
            self._raise_error()
            if ticket > self._offered:
                raise FeaturesError(f"ticket {ticket} is beyond the {self._offered} offers so far")
            reached: Future[None] = Future()
            reached.set_running_or_notify_cancel()  # a caller that gives up leaves it to the writer
            self._tickets.append((ticket, reached))
            self._hurry = True
            self._changed.notify()
        await asyncio.wrap_future(reached)

    async def close(self, within: float = CLOSE_WITHIN) -> None:
        """Write what waits and end the thread.

        Raises FeaturesError when writing failed, or was not done `within` so many seconds; the rows
        left out are computed again from the log after a restart.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join, within)
        with self._changed:
            if self._thread.is_alive():
                self._abandoned = True
                left = len(self._taken.keys() | self._waiting.keys())
                self._fail(
                    FeaturesError(f"{left} rows of online features were not written within {within:g} s")
                )
                self._changed.notify()
            self._raise_error()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        pause = 0.0
        while self._take(pause):
            started = time.thread_time()
            if not self._put():
                return
            cost = time.thread_time() - started
            pause = min(max(SHORTEST_WRITE_PAUSE, cost / COST_SHARE), LONGEST_WRITE_PAUSE)

    def _take(self, pause: float) -> bool:
        """Take what waits after the pause, or sooner when somebody hurries; False at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._hurry or self._closing, pause)
            self._changed.wait_for(lambda: self._waiting or self._hurry or self._closing, STORE_CHECK_EVERY)
            self._hurry = False
            self._take_waiting()
            return bool(self._taken) or self._durable < self._taken_up_to or not self._closing

    def _take_waiting(self) -> None:
        if self._taken:
            _keep_newest(self._taken, self._waiting)
        else:
            self._taken = self._waiting
        self._waiting = {}
        self._taken_up_to = self._offered

    def _put(self) -> bool:
        """Write what was taken, as often as it takes; False when that cannot be."""
        looked_again = False
        while True:
            try:
                self._look()
                self._rows.put(self._taken)
            except Exception as error:
                if is_lost(error) and not looked_again:
                    looked_again, self._looked = True, float("-inf")
                    continue
                if not is_transient(error):
                    failed = FeaturesError(f"writing online features failed: {error}")
                    failed.__cause__ = error
                    with self._changed:
                        self._fail(failed)
                    return False
                pause = self._outage.failed(error)
                self._rows.disconnect()
                with self._changed:
                    if self._changed.wait_for(lambda: self._abandoned, pause):
                        return False
                    self._take_waiting()
            else:
                self._outage.ended()
                self._succeed()
                return True

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked > STORE_CHECK_EVERY:
            self._rows.look()
            self._looked = now

    def _succeed(self) -> None:
        with self._changed:
            self.rows_written += len(self._taken)
            self._taken = {}
            self._durable = self._taken_up_to
            reached = [future for ticket, future in self._tickets if ticket <= self._durable]
            self._tickets = [entry for entry in self._tickets if entry[0] > self._durable]
        for future in reached:
            future.set_result(None)

    def _fail(self, error: FeaturesError) -> None:
        """Tell everybody, now and later; the lock is held."""
        self._error = error
        tickets, self._tickets = self._tickets, []
        for _, future in tickets:
            future.set_exception(error)


def _keep_newest(rows: dict[RowKey, StampedRow], others: Mapping[RowKey, StampedRow]) -> None:
    """Put into `rows` those of `others` that are not older; of equal times the other's."""
    for key, row in others.items():
        known = rows.get(key)
        if known is None or row[0] >= known[0]:
            rows[key] = row
