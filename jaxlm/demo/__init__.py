"""The demo: the whole job on text that every Python installation carries."""
