"""Keys per argument."""
