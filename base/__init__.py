"""The floor below all others. No models, and nothing of ours is imported."""
