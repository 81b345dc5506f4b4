"""What happens around a payment with a card."""

from __future__ import annotations

from driftline import Event


class Payment(Event, tag="payment"):
    """A card pays: the moment at which the question is asked. `amount` is in euros."""

    payment: str
    card: str
    merchant: str
    device: str
    country: str
    amount: float


class Disputed(Event, tag="disputed"):
    """The card's owner wants the money back."""

    payment: str


class Refunded(Event, tag="refunded"):
    """The merchant took the payment back: nobody will ever know."""

    payment: str


class Reported(Event, tag="reported"):
    """Somebody complained about a merchant."""

    merchant: str
