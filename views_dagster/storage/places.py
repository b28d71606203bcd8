"""Where everything that is made lives, as the environment says; the same for steps and for commands."""

import os
from pathlib import Path

_PROJECT = Path(__file__).resolve().parents[2]


def home() -> Path:
    """The folder of what has no place of its own: `$VIEWS_HOME`, or `data/` in the project."""
    return Path(os.environ.get("VIEWS_HOME") or _PROJECT / "data").resolve()


def tables_location() -> str:
    """Folder or URL of the tables: `$VIEWS_TABLES`, or `tables` at home."""
    return os.environ.get("VIEWS_TABLES") or str(home() / "tables")
