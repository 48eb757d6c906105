"""What tasklocks brings for other frameworks; each is imported by its users only."""
