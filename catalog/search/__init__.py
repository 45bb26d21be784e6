"""Full-text search over everything: entities, and the passages of what they say."""
