"""Feature state of one partition: windows and references, read as of an event."""
