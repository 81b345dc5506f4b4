"""Which code, under which arithmetic, a case is: what decides its bytes, as hashes."""
