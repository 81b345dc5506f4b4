"""The records of the topics: messages, positions, outputs, and what an owner needs of a broker."""
