"""The connector for container registries that speak the OCI distribution API."""
