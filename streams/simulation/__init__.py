"""The fold over files and a case's own source, without Kafka: the same bytes as production."""
