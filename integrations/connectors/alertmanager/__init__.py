"""The connector for Alertmanager."""
