"""Drift and unequal labels on streams whose truth is known: what is reported, and how late."""
