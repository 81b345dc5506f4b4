"""Errors of the online_models package."""

from __future__ import annotations

import re

from driftline.errors import DeclarationError, DriftlineError

_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")
_LONGEST = 500


def reason_of(error: BaseException) -> str:
    """The text of an exception of user code, without memory addresses: it must be the same when the log is
    folded again."""
    try:
        text = f"{type(error).__name__}: {error}"
    except Exception:
        text = type(error).__name__
    return _ADDRESS.sub("0x...", text)[:_LONGEST]


class ModelsError(DriftlineError):
    """The base class of errors about tasks, members and pools.

    >>> from driftline import ModelDeclarationError, NotFinite
    >>> issubclass(ModelDeclarationError, ModelsError), issubclass(NotFinite, ModelsError)
    (True, True)
    """


class ModelDeclarationError(ModelsError, DeclarationError):
    """A task, a member or a pool is declared with a wrong argument, or cannot run as declared.

    >>> from driftline import Member
    >>> Member("", object)
    Traceback (most recent call last):
        ...
    driftline.online_models.errors.ModelDeclarationError: ...
    """


class NotFinite(ModelsError):
    """An estimator's answer is not a finite number, or not a probability. It counts as a failure of the
    member.

    >>> raise NotFinite("the answer is nan")
    Traceback (most recent call last):
        ...
    driftline.online_models.errors.NotFinite: the answer is nan
    """
