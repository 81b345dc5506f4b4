"""The command `driftline`: a module for each group of its commands, `entry` puts them together.

What a command needs is imported inside it, so that help comes at once.
"""

from driftline.infra.cli.entry import app, main

__all__ = ["app", "main"]
