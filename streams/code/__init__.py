"""Which code and arithmetic a case runs under: all that decides its bytes, as hashes."""
