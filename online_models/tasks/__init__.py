"""Tasks: what is predicted, and how answers are read, scored and measured."""
