"""Feature state of one partition: windows and references, read as of the time of an event."""
