"""The base class of every error that driftline raises. Each package has its own base class below it.

This module and `driftline.declaration_check` import nothing of driftline, so that every layer may use them.
"""


class DriftlineError(Exception):
    """The base class of all errors of driftline. The message says what is wrong, where, and what to do.

    >>> from driftline import load_case
    >>> try:
    ...     load_case("nowhere:case")
    ... except DriftlineError as error:
    ...     print(type(error).__name__)
    DeclarationError
    """


class DeclarationError(DriftlineError):
    """A declaration is wrong, or there is none at the given place.

    >>> from driftline import load_case
    >>> load_case("flights")
    Traceback (most recent call last):
        ...
    driftline.errors.DeclarationError: ...
    """


class StateUnreadable(DriftlineError):
    """A part of the state that is on disk cannot be read, or is not what was written. The state must not be
    used any more; the one of a checkpoint can.

    >>> from driftline.errors import StateUnreadable
    >>> issubclass(StateUnreadable, DriftlineError)
    True
    """


def pass_interrupt(raised: BaseException) -> None:
    """Raise an exception of user code again if it is KeyboardInterrupt, so that a user can end the process,
    or a state that cannot be read, which is no fault of user code.

    Anything else that a user's function or estimator raises is a fault of that code: also `sys.exit()`, which
    would end the process silently, and a panic of a library in Rust, which is no `Exception` either. So user
    code is called in `try: ... except BaseException as error: pass_interrupt(error)`.
    """
    if isinstance(raised, KeyboardInterrupt | StateUnreadable):
        raise raised
