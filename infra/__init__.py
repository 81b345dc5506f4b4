"""Everything around a case: command line, settings, local Kafka, the demo, pages."""
