"""What a column network looks at: its filters, saliency, integrated gradients, and a check of these maps.

Functions return arrays and frames; `profile_plots` draws them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from views_dagster.precipitation import bands
from views_dagster.precipitation.columns import Columns
from views_dagster.precipitation.learners.column_network import FittedColumnNetwork, as_tensors
from views_dagster.precipitation.learners.network_parts import Arrays, logits, reproducible
from views_dagster.seeds import seed_for

if TYPE_CHECKING:
    from torch import Tensor

Method = Literal["saliency", "integrated_gradients"]
ATTRIBUTED_ROWS: Final = 2048
"""Points at which gradients are taken at once."""


@dataclass(frozen=True)
class Filters:
    """The first convolution: `weights` (F, V, K) float32, in order of the kernel's levels from low to high."""

    weights: NDArray[np.float32]
    profile_names: tuple[str, ...]


@dataclass(frozen=True)
class Maps:
    """Attributions of N columns' fractions to their predictors.

    A predictor is counted in standard deviations from its training mean, which is the baseline. Saliency is the
    absolute slope, fraction per standard deviation; integrated gradients are parts of the difference between the
    column's fraction and that of the mean column, and add up to it.

    Attributes:
        profiles: (B, N, V, L) float32.
        surface: (B, N, S) float32.
        band_names, profile_names, surface_names: B, V and S names.
        levels, level_unit: of the columns.
    """

    profiles: NDArray[np.float32]
    surface: NDArray[np.float32]
    band_names: tuple[str, ...]
    profile_names: tuple[str, ...]
    surface_names: tuple[str, ...]
    levels: NDArray[np.float32]
    level_unit: str

    def frame(self) -> pl.DataFrame:
        """Averages over the columns, one row a band and predictor: `band`, `variable`, `level` (null for surface
        fields), `mean` and `magnitude`, the mean of the absolute values."""
        parts = []
        for values, names, levels in (
            (self.profiles, self.profile_names, self.levels.tolist()),
            (self.surface[..., None], self.surface_names, [None]),
        ):
            size = (len(self.band_names), len(names), len(levels))
            band, variable, level = (axis.ravel() for axis in np.indices(size))
            parts.append(
                pl.DataFrame(
                    {
                        "band": [self.band_names[at] for at in band],
                        "variable": [names[at] for at in variable],
                        "level": pl.Series([levels[at] for at in level], dtype=pl.Float64),
                        "mean": values.mean(axis=1, dtype=np.float64).ravel(),
                        "magnitude": np.abs(values).mean(axis=1, dtype=np.float64).ravel(),
                    }
                )
            )
        return pl.concat(parts)


def first_layer_filters(model: FittedColumnNetwork) -> Filters:
    """The network's first convolution, on normalised variables."""
    return Filters(model.parameters["stem.weight"][:, :, 0, :], model.stored.inputs.profile_names)


def attributions(
    model: FittedColumnNetwork, columns: Columns, method: Method = "integrated_gradients", *, steps: int = 32
) -> Maps:
    """Attributions of every band of these columns; for one box, give its row alone.

    Args:
        model: a column network.
        columns: N columns; their rain is not looked at.
        method: `saliency` (Simonyan, Vedaldi and Zisserman 2014) or `integrated_gradients` (Sundararajan, Taly and
            Yan 2017), both by captum.
        steps: points of the integral (Gauss-Legendre).

    Raises:
        PanelError: the network cannot be given the columns.
    """
    profiles, surface = _attributed(model, model.parameters, columns, method, steps)
    inputs = model.stored.inputs
    return Maps(
        profiles,
        surface,
        bands.names(inputs.edges),
        inputs.profile_names,
        inputs.surface_names,
        columns.levels,
        columns.level_unit,
    )


def randomised_maps(
    model: FittedColumnNetwork, columns: Columns, method: Method = "saliency", *, seed: int = 0, steps: int = 32
) -> pl.DataFrame:
    """Whether maps tell of what was learned: they must change when the network's weights are shuffled.

    From the last layer to the first, each layer's trained weights are shuffled among themselves, on top of those
    before (the cascading randomisation of Adebayo et al. 2018). Integrated gradients keep some likeness to the
    network's, for they contain the input itself.

    Returns:
        `layer` shuffled last, and the `rank_correlation` (Spearman) of the magnitudes of the maps with those of the
        trained network: over the predictors of a column, averaged over columns and bands. Undefined ones, of a map
        that is 0 everywhere, count as 0.
    """
    rng = np.random.default_rng(seed_for(seed, "randomised"))
    trained = _magnitudes(model, model.parameters, columns, method, steps)
    parameters, rows = dict(model.parameters), []
    layers = dict.fromkeys(name.rpartition(".")[0] for name in reversed(parameters))
    for layer in layers:
        for name in (f"{layer}.weight", f"{layer}.bias"):
            parameters[name] = rng.permuted(parameters[name].ravel()).reshape(parameters[name].shape)
        found = _rank_correlation(trained, _magnitudes(model, parameters, columns, method, steps))
        rows.append({"layer": layer, "rank_correlation": float(found.mean())})
    return pl.DataFrame(rows)


def _attributed(
    model: FittedColumnNetwork, parameters: Arrays, columns: Columns, method: Method, steps: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(B, N, V, L) and (B, N, S) attributions, of the model with these parameters."""
    import torch
    from captum.attr import IntegratedGradients, Saliency

    examples = model.examples(columns)
    fractions = _fractions(model, parameters)
    varies = (model.normalisation.profile_factor != 0, model.normalisation.surface_factor != 0)
    chunk = max(ATTRIBUTED_ROWS // (steps if method == "integrated_gradients" else 1), 1)

    def attribute(rows: slice, band: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        inputs = tuple(torch.from_numpy(part[rows]).requires_grad_() for part in (examples.profiles, examples.surface))
        if method == "saliency":
            found = Saliency(fractions).attribute(inputs, target=band)
        else:
            found = IntegratedGradients(fractions).attribute(inputs, target=band, n_steps=steps)
        profiles, surface = (part.detach().numpy() for part in found)
        # The slope along a field that never varied in training says nothing of the model: its factor is 0.
        return profiles.transpose(0, 2, 1) * varies[0], surface * varies[1]

    blocks = [slice(at, at + chunk) for at in range(0, len(columns), chunk)]
    with reproducible("cpu"):
        by_band = [[attribute(rows, band) for rows in blocks] for band in range(model.stored.shape.bands)]
    profiles, surface = (
        np.stack([np.concatenate([block[part] for block in band]) for band in by_band]).astype(np.float32)
        for part in (0, 1)
    )
    return profiles, surface


def _fractions(model: FittedColumnNetwork, parameters: Arrays) -> Callable[[Tensor, Tensor], Tensor]:
    import torch

    tensors = as_tensors(parameters)
    offset = torch.tensor(model.stored.offset, dtype=torch.float32)

    def fractions(profiles: Tensor, surface: Tensor) -> Tensor:
        return (logits(tensors, profiles, surface) * model.stored.scale + offset).softmax(dim=1)

    return fractions


def _magnitudes(
    model: FittedColumnNetwork, parameters: Arrays, columns: Columns, method: Method, steps: int
) -> NDArray[np.float32]:
    """(B * N, V * L + S) absolute attributions."""
    parts: Iterable[NDArray[np.float32]] = _attributed(model, parameters, columns, method, steps)
    flat = [part.reshape(part.shape[0] * part.shape[1], -1) for part in parts]
    magnitudes: NDArray[np.float32] = np.abs(np.concatenate(flat, axis=1))
    return magnitudes


def _rank_correlation(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """(N,) Spearman correlation of the rows of (N, P) and (N, P), 0 where one of them is constant."""
    from scipy.stats import rankdata

    ranks = [rankdata(values, axis=1) for values in (first, second)]
    centred = [values - values.mean(axis=1, keepdims=True) for values in ranks]
    scale = np.sqrt((centred[0] ** 2).sum(axis=1) * (centred[1] ** 2).sum(axis=1))
    product = (centred[0] * centred[1]).sum(axis=1)
    correlation: NDArray[np.float64] = np.divide(product, scale, out=np.zeros_like(product), where=scale > 0)
    return correlation
