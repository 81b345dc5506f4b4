"""Statistics of features as they were served, and what is said of them."""
