"""Published records as a gateway reads them: results by id, pages, event streams."""
