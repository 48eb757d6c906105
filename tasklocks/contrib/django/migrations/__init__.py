"""The tables of the `django://` backend, as they came to be."""
