"""Models as a case declares them, tolerance of failures, and reactions to drift."""
