"""Seeds: one stable integer for each thing that draws random numbers."""

import hashlib


def seed_for(*parts: str | int) -> int:
    """A 32-bit seed that depends on `parts` alone, the same on every machine and Python version."""
    text = "\x1f".join(map(str, parts))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
