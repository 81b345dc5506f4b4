"""Commands about one topic of a case each: its records, its schema, and what is sent because of them."""
