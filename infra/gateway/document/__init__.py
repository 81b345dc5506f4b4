"""What the OpenAPI document says of bodies and answers: schemas, examples, problems."""
