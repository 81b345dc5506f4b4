"""The work on one partition in a worker's hands: taken over, caught up, served, given back."""
