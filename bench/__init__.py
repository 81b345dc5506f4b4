"""Benchmarks: driftline beside bare River, plain Faust, Quix Streams, bytewax, Pathway and aiokafka."""
