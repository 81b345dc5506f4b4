"""The quality of members and pools on shipped and generated streams, and a trial of every River estimator."""
