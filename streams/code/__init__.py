"""Hashes of the code and the arithmetic that a case runs under: everything that decides its bytes."""
