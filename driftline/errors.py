"""The root of every error that driftline raises. Each package below has a branch of its own.

This module and `driftline.declaration_check` import nothing of driftline, so that every layer may use them.
"""


class DriftlineError(Exception):
    """What driftline refuses or cannot do; the message says what was wrong, where, and what to do.

    >>> from driftline import load_case
    >>> try:
    ...     load_case("nowhere:case")
    ... except DriftlineError as error:
    ...     print(type(error).__name__)
    DeclarationError
    """


class DeclarationError(DriftlineError):
    """A declaration that cannot be run.

    >>> from driftline import load_case
    >>> load_case("flights")
    Traceback (most recent call last):
        ...
    driftline.errors.DeclarationError: ...
    """


def pass_interrupt(raised: BaseException) -> None:
    """Raises what user code raised again where that is KeyboardInterrupt, for the user at the terminal.

    All else that a user's function or estimator raises is a fault of its own: also `sys.exit()`, which would
    end the process without a word, and a panic of a library in Rust, which is no `Exception` either. So user
    code is called in `try: ... except BaseException as error: pass_interrupt(error)`.
    """
    if isinstance(raised, KeyboardInterrupt):
        raise raised
