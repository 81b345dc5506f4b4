"""Incarnations of an online store: each time it begins without rows it gets a new token, kept in the store.

Whoever empties the store removes the token too, be it a command of Feast, a restart without its data or a
deleted file. So a writer that finds another token than the one it knows has to put every row again.
"""

from __future__ import annotations

import secrets


def new_token() -> str:
    """A token that no other incarnation has."""
    return secrets.token_hex(8)
