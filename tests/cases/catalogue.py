"""Orders whose product is looked up: what a product weighs comes from references."""

from __future__ import annotations

from dataclasses import replace

import shop

from driftline import lookup

catalogue = replace(
    shop.orders,
    name="catalogue",
    events=[shop.Asked, shop.Settled, shop.Product],
    features=shop.features | {"weight": lookup(shop.Product, "weight", by="product")},
)


def product(n: int, minute: float = 0) -> shop.Product:
    """The reference for product `n`, sent `minute` after the start."""
    at = shop.asked(0, minute).at
    return shop.Product(id=f"product-{n}-{minute:g}", at=at, product=f"p{n}", weight=1.0 + n)
