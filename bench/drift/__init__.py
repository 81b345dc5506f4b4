"""Drift and unequal label delays on streams with known changes: what is reported, and how late."""
