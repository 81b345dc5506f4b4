"""Proofs that what was published is what the log gives."""
