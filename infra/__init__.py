"""Command line, settings, local Kafka, demo and its report."""
