from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose

from views_dagster.errors import ArtifactError, PanelError
from views_dagster.precipitation.bands import EDGES
from views_dagster.precipitation.learners.inputs import (
    Inputs,
    band_rates,
    check_training,
    diagnosis,
    from_exceedance,
    ranked_score,
    read_stored,
)
from views_dagster_tests.precipitation.columns_worlds import columns_world


def test_rates_are_those_that_made_the_means() -> None:
    world = columns_world(2048)
    rates = np.array([0.0, 0.2, 1.7, 6.0, 14.0])
    made = replace(world, rain_mean=(world.fractions @ rates).astype(np.float32))
    assert_allclose(band_rates(made), rates, rtol=0.01, atol=1e-3)


def test_rates_stay_in_their_bands_and_bands_that_do_not_occur_have_their_middle() -> None:
    world = columns_world(512)
    dry = np.eye(1, 5, dtype=np.float32).repeat(len(world), axis=0)
    rates = band_rates(replace(world, fractions=dry, rain_mean=np.full(len(world), 3.0, np.float32)))
    # More rain than the dry band can hold puts its rate on the upper edge.
    assert_allclose(rates, [0.01, np.sqrt(0.01 * 0.5), np.sqrt(2.0), np.sqrt(40.0), 20.0], rtol=2e-3)


def test_fractions_from_exceedance_by_hand() -> None:
    above = np.array([[0.5, 0.2, 0.3, 0.0], [1.2, 0.1, 0.1, -0.1]])
    assert_allclose(from_exceedance(above), [[0.5, 0.3, 0.0, 0.2, 0.0], [0.0, 0.9, 0.0, 0.1, 0.0]], atol=1e-12)


@settings(deadline=None)
@given(arrays(np.float64, (7, 4), elements=st.floats(-1, 2)))
def test_any_exceedance_gives_fractions(above: np.ndarray) -> None:
    said = diagnosis(from_exceedance(above), np.zeros(7))
    assert_allclose(said.fractions.sum(axis=1), 1, atol=1e-6)


def test_the_ranked_score_by_hand() -> None:
    # Exceedances (.5, .5) against (1, 0), and a perfect row.
    predicted, observed = np.array([[0.5, 0.0, 0.5], [0, 1, 0]]), np.array([[0.0, 1.0, 0.0], [0, 1, 0]])
    assert ranked_score(predicted, observed) == pytest.approx(0.25)


def test_inputs_remember_what_they_are_of() -> None:
    world = columns_world(64, levels=3, members=2)
    inputs = Inputs.of(world, members=True)
    assert (inputs.members, inputs.edges, len(inputs.levels)) == (2, EDGES, 3)
    inputs.check(world)
    with pytest.raises(PanelError, match=r"fitted on members 2, the columns have 3"):
        inputs.check(columns_world(64, levels=3, members=3))
    assert Inputs.of(world).members is None


def test_training_of_few_rows_is_refused() -> None:
    world = columns_world(64)
    with pytest.raises(PanelError, match="19 columns are too few to train on; at least 20"):
        check_training(world.take(np.arange(19)), world)
    assert check_training(world.take(np.arange(20)), world) == Inputs.of(world)


def test_other_validation_columns_are_refused() -> None:
    with pytest.raises(PanelError, match="levels"):
        check_training(columns_world(64, levels=5), columns_world(64, levels=4))


def test_a_model_file_that_is_none_is_refused() -> None:
    with pytest.raises(ArtifactError, match=r"no model\.json, only \['a'\]"):
        read_stored({"a": b""}, Inputs)
    with pytest.raises(ArtifactError, match=r"model\.json cannot be read"):
        read_stored({"model.json": b"{}"}, Inputs)
