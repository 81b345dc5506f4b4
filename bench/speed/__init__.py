"""The speed of the fold, the latency under a paced load, the cost of a take-over."""
