"""Calibration of a network's scores: a temperature and a bias per band, fitted to observed fractions."""

import numpy as np
from numpy.typing import NDArray


def calibration(
    scores: NDArray[np.float64], observed: NDArray[np.floating], offset: NDArray[np.float64], *, temperature: bool
) -> tuple[float, NDArray[np.float64]]:
    """Scale (one over the temperature) and offset (B,) that fit scores (N, B) to observed fractions (N, B) best.

    softmax(scale * scores + offset) has the least Kullback-Leibler divergence (Guo et al. 2017, with a bias), which is
    convex; at its minimum the mean predicted fractions equal the mean observed ones. Without `temperature` the scale
    stays 1. A band that was not observed at all keeps what it has in the `offset` to start from.
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    seen = observed.sum(axis=0) > 0

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        logs = log_softmax(values[0] * scores + offset + values[1:], axis=1)
        residual = np.exp(logs) - observed
        slope = np.concatenate([[(residual * scores).sum()], residual.sum(axis=0)]) / len(scores)
        return float(-(observed * logs).sum() / len(scores)), slope

    bounds = [(0.1, 10.0) if temperature else (1.0, 1.0), *((-20.0, 20.0) if some else (0.0, 0.0) for some in seen)]
    start = np.concatenate([[1.0], np.zeros(len(offset))])
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"ftol": 1e-15, "gtol": 1e-8})
    return float(found.x[0]), offset + found.x[1:]
