"""Seeds do not depend on the process, and differ between things."""

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from views_dagster.seeds import seed_for

PARTS = st.lists(st.one_of(st.text(max_size=5), st.integers()), max_size=4)


def test_known_seed() -> None:
    # First four bytes of `printf 'quiet_echo\x1ffit\x1f529' | sha256sum`.
    assert seed_for("quiet_echo", "fit", 529) == int("f5ab92d0", 16)


def test_another_process_gives_the_same_seed() -> None:
    command = "from views_dagster.seeds import seed_for; print(seed_for('a', 1))"
    other = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert int(other.stdout) == seed_for("a", 1)


@given(PARTS)
def test_seeds_fit_32_bits(parts: list[str | int]) -> None:
    assert 0 <= seed_for(*parts) < 2**32


def test_order_and_grouping_of_parts_count() -> None:
    assert len({seed_for("ab"), seed_for("a", "b"), seed_for("b", "a"), seed_for("a", "b", "")}) == 4
