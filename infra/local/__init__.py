"""What runs on this machine: Kafka, and each worker with its progress."""
