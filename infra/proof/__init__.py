"""The commands that prove: audit, check, lineage, replay."""
