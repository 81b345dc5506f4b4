"""The parts of the OpenAPI document about bodies and answers: schemas, examples, problems."""
