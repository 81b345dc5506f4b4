"""The monitors of single streams."""
