"""Evaluations, simulations, feature history and training sets from the command line."""
