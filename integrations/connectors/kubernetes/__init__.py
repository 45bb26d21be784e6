"""The connector for Kubernetes clusters."""
