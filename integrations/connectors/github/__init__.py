"""The connector for GitHub."""
