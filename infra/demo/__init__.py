"""The demo: a case's own source through a real Kafka, a worker beside it, and a report of the outputs."""
