"""The past of the topics, from Kafka and from Parquet parts."""
