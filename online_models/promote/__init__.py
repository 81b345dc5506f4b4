"""Which member should serve, decided by evidence."""
