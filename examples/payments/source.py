"""Two months of made-up payments, in the order of their time: the same ones at every call.

Most cards pay in their own country from their own device. A stolen card is used a few times within hours, for
more than it is used to, from a device that has used other cards, anywhere; its owner disputes most of that
within days. For a week a merchant's terminal is tapped: some of what is paid there is disputed, and people
report the merchant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import count
from random import Random

from driftline import Event

from .events import Disputed, Payment, Refunded, Reported

START = datetime(2024, 1, 1, tzinfo=UTC)
PAYMENTS = 20_000
SECONDS_BETWEEN = 260.0
CARDS, MERCHANTS, THIEVES = 1_500, 150, 40
COUNTRIES = ("DE", "FR", "IT", "NL", "PL")
STOLEN = 0.006
"""Share of payments after which the card is stolen."""
HONEST_DISPUTES, DISPUTED_THEFTS, TAPPED_DISPUTES, REFUNDS = 0.001, 0.9, 0.15, 0.02
TAPPED_DAYS = 7


@dataclass(frozen=True, slots=True)
class _Paying:
    """A payment that is about to be made."""

    card: int
    merchant: int
    device: str
    country: str
    amount: float
    stolen: bool = False


def events(payments: int = PAYMENTS, seed: int = 7) -> Iterator[Event]:
    """The events of so many payments, and what follows from them."""
    yield from _Town(seed).events(payments)


class _Town:
    """Cards and merchants, and what is still to come of them: by time, then in the order it was decided."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._usual = [self._random.lognormvariate(3.3, 0.6) for _ in range(CARDS)]
        self._home = [self._random.choice(COUNTRIES) for _ in range(CARDS)]
        self._coming: list[tuple[float, int, Event | _Paying]] = []
        self._numbers = count()

    def events(self, payments: int) -> Iterator[Event]:
        """What happens until so many payments are made, and what follows from them."""
        made = 0
        self._expect(self._random.expovariate(1 / SECONDS_BETWEEN), self._honest())
        while self._coming:
            at, _, what = heappop(self._coming)
            if not isinstance(what, _Paying):
                yield what
            elif made < payments:
                made += 1
                if not what.stolen:
                    self._expect(at + self._random.expovariate(1 / SECONDS_BETWEEN), self._honest())
                payment = self._payment(made, at, what)
                yield payment
                self._follow(payment, at, what)

    def _expect(self, at: float, what: Event | _Paying) -> None:
        heappush(self._coming, (at, next(self._numbers), what))

    def _honest(self) -> _Paying:
        card = min(int(self._random.expovariate(3 / CARDS)), CARDS - 1)  # some pay much more often
        amount = self._usual[card] * self._random.lognormvariate(0, 0.5)
        return _Paying(card, self._merchant(), f"d{card}", self._home[card], amount)

    def _merchant(self) -> int:
        return min(int(self._random.expovariate(4 / MERCHANTS)), MERCHANTS - 1)

    def _payment(self, number: int, at: float, paying: _Paying) -> Payment:
        return Payment(
            id=f"payment-{number}",
            at=_moment(at),
            payment=f"p{number}",
            card=f"c{paying.card}",
            merchant=f"m{paying.merchant}",
            device=paying.device,
            country=paying.country,
            amount=round(paying.amount, 2),
        )

    def _follow(self, payment: Payment, at: float, paying: _Paying) -> None:
        """Decide what comes of a payment."""
        draw = self._random.random
        tapped = _is_tapped(paying.merchant, at)
        disputes = DISPUTED_THEFTS if paying.stolen else TAPPED_DISPUTES if tapped else HONEST_DISPUTES
        if draw() < disputes:
            at_dispute = at + self._days(4.0)
            self._expect(at_dispute, _disputed(payment, at_dispute))
            if tapped and draw() < 0.5:
                self._expect(at_dispute, _reported(payment, at_dispute))
        elif draw() < REFUNDS:
            at_refund = at + self._days(1.0)
            self._expect(at_refund, _refunded(payment, at_refund))
        if not paying.stolen and draw() < STOLEN:
            self._steal(paying.card, at)

    def _days(self, mean: float) -> float:
        """Seconds of so many days on average, 13 at most."""
        return min(self._random.expovariate(1 / mean), 13.0) * 86_400

    def _steal(self, card: int, at: float) -> None:
        thief = f"t{self._random.randrange(THIEVES)}"
        at += self._days(1.0)
        for _ in range(self._random.randint(3, 8)):
            at += self._random.expovariate(1 / 900)
            amount = self._usual[card] * self._random.lognormvariate(1.2, 0.5)
            country = self._random.choice(COUNTRIES)
            self._expect(at, _Paying(card, self._merchant(), thief, country, amount, stolen=True))


def _is_tapped(merchant: int, at: float) -> bool:
    """Each week another merchant's terminal is tapped, one of the busy ones."""
    return merchant == int(at / (TAPPED_DAYS * 86_400)) * 3 % 20


def _moment(at: float) -> datetime:
    return START + timedelta(microseconds=round(at * 1e6))


def _disputed(payment: Payment, at: float) -> Event:
    return Disputed(id=f"disputed-{payment.payment}", at=_moment(at), payment=payment.payment)


def _refunded(payment: Payment, at: float) -> Event:
    return Refunded(id=f"refunded-{payment.payment}", at=_moment(at), payment=payment.payment)


def _reported(payment: Payment, at: float) -> Event:
    return Reported(id=f"reported-{payment.payment}", at=_moment(at), merchant=payment.merchant)
