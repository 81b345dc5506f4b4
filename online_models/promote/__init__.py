"""Decides by evidence which member should serve."""
