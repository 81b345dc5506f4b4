"""Online features: the cost of rows, written and read, and how fresh they are."""
