"""Programs around the system: they produce events, consume predictions, bridge topics, read schemas."""
