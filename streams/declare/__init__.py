"""What a case is: events, topics, where events come from, and the declaration as a whole."""
