"""Commands about the topics of a case: their records, schemas, rights, and what is sent to them."""
