"""Processes: workers' slots, children that end with their parent, work until a signal."""
