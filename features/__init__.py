"""Features: declared, computed in event time, kept by Feast, read online, watched."""
