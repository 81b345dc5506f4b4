"""An operator's side of a case's topics: create, read, compare, command, send history."""
