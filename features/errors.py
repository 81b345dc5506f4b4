"""Errors of the features package."""

from driftline.errors import DeclarationError, DriftlineError


class FeaturesError(DriftlineError):
    """Root of the package's errors."""


class FeatureDeclarationError(FeaturesError, DeclarationError):
    """A feature that cannot be computed as it is declared."""


class FeatureValueError(FeaturesError):
    """User code of one feature raised, or its value was not a finite number, text, bool or None."""

    def __init__(self, feature: str, reason: str) -> None:
        super().__init__(f"feature {feature!r}: {reason}")
        self.feature = feature
        self.reason = reason
