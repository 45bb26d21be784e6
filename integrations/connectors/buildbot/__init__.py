"""The connector for Buildbot."""
