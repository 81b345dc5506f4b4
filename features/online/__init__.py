"""Newest values: written to Feast's online store, and read from it."""
