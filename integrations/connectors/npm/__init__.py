"""The connector for npm registries."""
