"""Errors of the features package."""

from driftline.errors import DeclarationError, DriftlineError


class FeaturesError(DriftlineError):
    """The base class of errors about features and the online store.

    >>> from driftline import FeatureDeclarationError, FeatureValueError, SchemaError
    >>> kinds = FeatureDeclarationError, FeatureValueError, SchemaError
    >>> all(issubclass(kind, FeaturesError) for kind in kinds)
    True
    """


class FeatureDeclarationError(FeaturesError, DeclarationError):
    """A feature is declared with a wrong argument, or cannot be computed as declared.

    >>> from driftline import field
    >>> field("amount", valid=(3, 1))
    Traceback (most recent call last):
        ...
    driftline.features.errors.FeatureDeclarationError: ...
    """


class StoreUnreadable(FeaturesError):
    """The online store does not answer, or refuses the read. The request itself is correct: try again later.

    >>> print(StoreUnreadable("the online store does not answer"))
    the online store does not answer
    """


class FeatureValueError(FeaturesError):
    """A function of a feature raised, or its value was not a finite number, text, bool or None.

    The event or request becomes a dead letter of stage "features".

    >>> print(FeatureValueError("speed", "nan is no finite number"))
    feature 'speed': nan is no finite number
    """

    def __init__(self, feature: str, reason: str) -> None:
        super().__init__(f"feature {feature!r}: {reason}")
        self.feature = feature
        self.reason = reason
