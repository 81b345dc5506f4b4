"""Dashboard and alert rules of a case in production, made from the metrics that are declared."""
