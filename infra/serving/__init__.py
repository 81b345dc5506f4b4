"""Runs a worker with everything around it, and new code beside old."""
