"""States of partitions, sealed and stored, and the output tails that belong to them."""
