"""Names: the form that catalogue entries' names have, what was meant by one that does not exist, and lists of some."""

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Final

import numpy as np
from numpy.typing import NDArray

_TWO_WORDS: Final = re.compile(r"[a-z]+_[a-z]+")
_WORDS: Final = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def nearest(name: str, known: Iterable[str]) -> str:
    """End of a sentence about an unknown `name`: the name closest to it, then all that are known."""
    names = sorted(known)
    close = get_close_matches(name, names, n=1)
    meant = f"; did you mean {close[0]}? There are: " if close else "; there are: "
    return meant + (", ".join(names) or "none")


def malformed(name: str, *, adjective_noun: bool) -> str | None:
    """What is wrong with the form of an entry's name, or None.

    Args:
        adjective_noun: the name must be two lower-case words, as VIEWS names models and ensembles.
    """
    if adjective_noun and not _TWO_WORDS.fullmatch(name):
        return f"{name!r} is not adjective_noun: name it with two lower-case words and an underscore, like purple_alien"
    if not _WORDS.fullmatch(name):
        return f"{name!r} is not a name: use lower-case letters, digits and single underscores, a letter first"
    return None


def listed(values: Sequence[object] | NDArray[np.int64], most: int = 5) -> str:
    """The first few of many, for a message: `1, 2, 3, 4, 5 and 7 more`, or `none`."""
    shown = ", ".join(map(str, values[:most])) or "none"
    return shown if len(values) <= most else f"{shown} and {len(values) - most} more"
