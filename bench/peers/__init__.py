"""The same job on driftline, bare River, plain Faust, Quix Streams and aiokafka, each in its own process."""
