"""Windows over one key, and tables of them by key."""
