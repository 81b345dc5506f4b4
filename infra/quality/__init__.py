"""Statistics and anomalies of served features, as an object and as a page."""
