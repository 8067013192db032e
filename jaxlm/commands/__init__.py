"""Commands: each parses its flags and calls a function of the library."""
