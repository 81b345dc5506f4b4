"""What a worker reports of itself while it serves: status file, figures of its models, metrics, health."""
