"""The Grafana dashboard and the Prometheus alert rules of a case, generated from the declared metrics."""
