"""Which pool of models a request is answered by."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter

from driftline.features.declare.keys import key_text
from driftline.online_models.members.member import Shared
from driftline.streams.declare.usecase import UseCase
from driftline.streams.fold.label_join import PendingPrediction

ONE_POOL = ""
"""The key of the only pool of a case whose models are shared."""

PoolKey = Callable[[PendingPrediction], str]


def pool_key_of(case: UseCase) -> PoolKey:
    """A function that gives the key of the pool which answers a prediction, and learns from its label."""
    models = case.models
    if isinstance(models, Shared):
        return lambda _: ONE_POOL
    field = models.by
    if field is None or field == case.key:
        return attrgetter("key")

    def by_field(pending: PendingPrediction) -> str:
        # the code that answered a request which is refused here may have published other keys
        return key_text(pending.keys[field]) if field in pending.keys else pending.key

    return by_field
