"""Online features: the cost of writing and reading rows, and their freshness."""
