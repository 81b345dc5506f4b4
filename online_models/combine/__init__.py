"""Combinations of a pool's members that follow whichever is best."""
