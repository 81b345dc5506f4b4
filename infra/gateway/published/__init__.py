"""What a case has published, as a gateway reads it: results by id, pages, event streams."""
