"""One hash seed for every process that folds.

Sets of text, which River's multiclass models keep their classes in, are gone through in an order that depends
on it, and sums of floats depend on the order.
"""

from __future__ import annotations

import os
import sys
import warnings

VARIABLE = "PYTHONHASHSEED"
SEED = "0"


class HashSeedWarning(UserWarning):
    """A fold in a process with another hash seed than workers have."""


def is_pinned() -> bool:
    """Whether this process has the hash seed that folds have."""
    return not sys.flags.hash_randomization  # it is randomized by any other seed too


def pin() -> None:
    """See that this process, and those it starts, have the hash seed: if not, its command is executed again.

    To be called before anything else is done. A Python that is told to ignore its environment (-E, -I) goes
    on as it is, and the numeric fingerprint says so.
    """
    if is_pinned() or sys.flags.ignore_environment or os.environ.get(VARIABLE) == SEED:
        return
    os.environ[VARIABLE] = SEED
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def warn_unless_pinned() -> None:
    """Warn a user who folds in a process of their own."""
    if not is_pinned():
        warnings.warn(
            f"the hash seed of this process is not the one that workers have: models that keep classes in a "
            f"set, and functions that go through one, may give other predictions here, and another digest. "
            f"Set {VARIABLE}={SEED} before Python starts",
            HashSeedWarning,
            stacklevel=3,
        )


def hashing() -> str:
    """ "" under the hash seed that folds have, else a number that tells this one from others."""
    return "" if is_pinned() else f"{hash(VARIABLE) % 2**32:08x}"
