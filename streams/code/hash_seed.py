"""One hash seed for every process that folds.

River's multiclass models keep their classes in sets of text. The order of iteration over such a set depends
on the hash seed, and sums of floats depend on the order.
"""

from __future__ import annotations

import os
import sys
import warnings

VARIABLE = "PYTHONHASHSEED"
SEED = "0"


class HashSeedWarning(UserWarning):
    """A fold runs in a process whose hash seed differs from that of workers."""


def is_pinned() -> bool:
    """Whether this process has the hash seed of folds."""
    return not sys.flags.hash_randomization  # this flag is also set by any other fixed seed


def pin() -> None:
    """Make sure that this process, and those it starts, have the hash seed of folds. Without it, the process
    executes its command again.

    Call it before anything else. A Python that ignores its environment (-E, -I) continues unchanged, and the
    numeric fingerprint then has another value.
    """
    if is_pinned() or sys.flags.ignore_environment or os.environ.get(VARIABLE) == SEED:
        return
    os.environ[VARIABLE] = SEED
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def warn_unless_pinned() -> None:
    """Warn a user whose own process folds with another hash seed."""
    if not is_pinned():
        warnings.warn(
            f"the hash seed of this process is not the one that workers have: models that keep classes in a "
            f"set, and functions that go through one, may give other predictions here, and another digest. "
            f"Set {VARIABLE}={SEED} before Python starts",
            HashSeedWarning,
            stacklevel=3,
        )


def hashing() -> str:
    """ "" under the hash seed of folds, else a number that identifies this process's seed."""
    return "" if is_pinned() else f"{hash(VARIABLE) % 2**32:08x}"
