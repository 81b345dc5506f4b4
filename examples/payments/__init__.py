"""Will a payment be disputed by the card's owner? Asked as it is made.

What is known then: what was paid with the card, at the merchant and from the device lately, and how often a
merchant was reported. A dispute comes days later and knows the payment alone; a payment that nobody disputes
within the wait was right, one that is refunded says nothing. One model learns from all of them.
"""

from __future__ import annotations

from driftline import DAY, HOUR, Binary, Label, Member, Shared, UseCase, count, derive, distinct, field, mean

from .events import Disputed, Payment, Refunded, Reported
from .models import logistic, trees


def hour(request: Payment) -> float:
    """The hour of the day in UTC, with its fraction."""
    return request.at.hour + request.at.minute / 60


payments = UseCase(
    "payments",
    key="card",
    events=[Payment, Disputed, Refunded, Reported],
    features={
        "amount": field("amount"),
        "hour": derive(hour, unit="hours", monitor=False),
        "of_card_1h": count(Payment, by="card", over=HOUR),
        "card_amount_7d": mean(Payment, "amount", by="card", over=7 * DAY),
        "card_countries_1d": distinct(Payment, "country", by="card", over=DAY),
        "at_merchant_1h": count(Payment, by="merchant", over=HOUR),
        "merchant_amount_1d": mean(Payment, "amount", by="merchant", over=DAY),
        "merchant_reports_7d": count(Reported, by="merchant", over=7 * DAY),
        "of_device_1h": count(Payment, by="device", over=HOUR),
        "device_cards_1d": distinct(Payment, "card", by="device", over=DAY),
    },
    task=Binary(
        "disputed",
        ask=Payment,
        label=Label(
            Disputed,
            on="payment",
            value=lambda _: True,
            wait=14 * DAY,
            void=[Refunded],
            at_expiry=False,
        ),
    ),
    models=Shared(champion=Member("logistic", logistic), challengers=[Member("trees", trees, rate=0.2)]),
    slices=["country"],
    source="driftline.examples.payments.source:events",
    description="Payment that the card's owner will dispute, asked as it is made",
)
