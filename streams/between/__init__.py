"""What stages send to each other: its records, who makes and takes them, and pools on their way."""
