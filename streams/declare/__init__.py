"""What a case is: events, commands, topics, keys, and the declaration as a whole."""
