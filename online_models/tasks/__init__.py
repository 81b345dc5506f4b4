"""What is predicted, how answers are read, scored and measured."""
