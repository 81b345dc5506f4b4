"""Statistics of features, and how far they are from what is expected."""
