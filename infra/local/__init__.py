"""What runs on this machine: Kafka, and the progress of each worker."""
