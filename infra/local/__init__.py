"""What runs on this machine: Kafka, and how far each worker has come."""
