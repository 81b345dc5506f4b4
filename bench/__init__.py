"""Measures driftline against bare River, plain Faust, Quix Streams and aiokafka on the same events."""
