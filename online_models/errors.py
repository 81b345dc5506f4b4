"""Errors of the online_models package."""


class ModelsError(Exception):
    """Root of the package's errors: a declaration that cannot be run."""


class NotFinite(ModelsError):
    """An estimator's answer is no finite number, or no probability."""
