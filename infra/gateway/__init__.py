"""The HTTP gateway of cases: takes requests and facts into the log, serves predictions, records and
features."""
