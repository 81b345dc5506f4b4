"""Predictions that wait for their label, by deadline and by label key, packed when many wait."""
