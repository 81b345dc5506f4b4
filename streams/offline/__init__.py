"""Feature history and training sets, out of the archive."""
