"""The connector for Prometheus."""
