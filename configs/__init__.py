"""Configs, one file a paper: `get_config(variant)` returns a ConfigDict."""
