"""Any Git remote, or a folder of repositories."""
