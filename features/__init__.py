"""Feature declarations, event-time windows, and the Feast objects built from them."""
