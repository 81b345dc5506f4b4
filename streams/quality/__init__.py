"""Statistics of features as they were served, and the anomalies in them."""
