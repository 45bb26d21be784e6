"""The connector for Python package indexes."""
