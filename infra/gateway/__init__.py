"""HTTP in front of a case: requests and facts into its log, published predictions and features out of it."""
