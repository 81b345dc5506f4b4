"""The work of a worker on one partition: take over, catch up, serve, give back."""
