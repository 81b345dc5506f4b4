"""From a declaration to the stages that would run it."""
