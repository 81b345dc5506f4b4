"""States of partitions, sealed and stored, and the output tails that they go with."""
