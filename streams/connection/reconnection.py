"""How clients of kafka-python come back to a broker that was away: theirs wait for half a minute else."""

RECONNECTION = {"reconnect_backoff_max_ms": 1_000}
"""Settings of all of them."""
