"""How well members and pools predict: on shipped and generated streams, and every estimator of River."""
