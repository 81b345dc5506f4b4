"""The fold over one partition of the log: pure, deterministic, the same in simulation and production."""
