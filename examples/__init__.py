"""Use cases as their users write them."""
