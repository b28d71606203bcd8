"""The catalogue: what exists, one folder a thing, loaded by dg from its `defs.yaml` files."""
