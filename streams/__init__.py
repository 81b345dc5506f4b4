"""Events, topics, the fold, and everything that runs it: Faust worker, outbox, simulation, clients."""
