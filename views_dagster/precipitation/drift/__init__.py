"""Drift checks of columns, of what is diagnosed from them, and of how well."""
