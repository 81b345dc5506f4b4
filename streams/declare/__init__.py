"""The declaration of a case: events, commands, topics, keys, and the use case as a whole."""
