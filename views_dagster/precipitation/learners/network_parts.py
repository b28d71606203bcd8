"""The column network as functions of its parameters: layers, losses, schedules and reproducible threads.

A convolution over levels is written as a two-dimensional one of height 1 in channels-last memory, which torch computes
on a CPU in two thirds of the time of `conv1d`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Parameters = Mapping[str, "Tensor"]
Loss = Literal["kl", "rps"]
Schedule = Literal["one_cycle", "cosine"]
Device = Literal["auto", "cpu", "cuda"]

SMALLEST_SHARE: Final = 1e-6
SHARD_ROWS: Final = 256
"""Rows of a batch that one thread takes at a time; their activations stay in a core's cache."""

PREDICT_ROWS: Final = 1024

Arrays = dict[str, NDArray[Any]]
In = TypeVar("In")
Out = TypeVar("Out")


class Shape(BaseModel):
    """Sizes of a network: V variables on L levels, S surface fields, B bands, and its layers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    variables: int
    levels: int
    surface: int
    bands: int
    depth: int
    width: int
    kernel: int
    hidden: int

    def parameters(self) -> dict[str, tuple[int, ...]]:
        """Shape of each parameter, in the order in which data meets them."""
        convolutions = {"stem": self.variables}
        convolutions |= {f"block{block}.{part}": self.width for block in range(self.depth) for part in ("in", "out")}
        joined = self.levels * self.width + self.surface
        shapes: dict[str, tuple[int, ...]] = {}
        for name, channels in convolutions.items():
            shapes |= {f"{name}.weight": (self.width, channels, 1, self.kernel), f"{name}.bias": (self.width,)}
        shapes |= {"join.weight": (self.hidden, joined), "join.bias": (self.hidden,)}
        return shapes | {"head.weight": (self.bands, self.hidden), "head.bias": (self.bands,)}


@dataclass(frozen=True)
class Examples:
    """Normalised rows: profiles (N, L, V), surface (N, S), observed fractions (N, B), all float32."""

    profiles: NDArray[np.float32]
    surface: NDArray[np.float32]
    fractions: NDArray[np.float32]

    def tensors(self, device: str) -> tuple[Tensor, Tensor, Tensor]:
        """The same memory as tensors, or a copy on the GPU."""
        import torch

        profiles, surface, fractions = map(torch.from_numpy, (self.profiles, self.surface, self.fractions))
        return profiles.to(device), surface.to(device), fractions.to(device)


def initial_parameters(shape: Shape, seed: int, shares: NDArray[np.floating] | None = None) -> dict[str, Tensor]:
    """Parameters to start from, float32 on the CPU.

    Weights are uniform with variance 2 / fan-in (He et al. 2015). The last convolution of each residual block is 0, so
    that a block starts as the identity and needs no normalisation layer (Zhang, Dauphin and Ma 2019, "Fixup"). Given
    `shares` (B,), a network starts near that climatology.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    parameters = {}
    for name, size in shape.parameters().items():
        value = torch.zeros(size)
        if name.endswith("weight") and not name.endswith("out.weight"):
            bound = math.sqrt(6 / math.prod(size[1:])) * (0.1 if name.startswith("head") else 1)
            value.uniform_(-bound, bound, generator=generator)
        parameters[name] = value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value
    if shares is not None:
        parameters["head.bias"] = torch.from_numpy(np.log(np.maximum(shares, SMALLEST_SHARE)).astype(np.float32))
    return parameters


def logits(
    parameters: Parameters, profiles: Tensor, surface: Tensor, drop: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """(N, B) scores of the bands before softmax.

    Args:
        parameters: of `Shape.parameters`.
        profiles: (N, L, V) normalised.
        surface: (N, S) normalised.
        drop: dropout of a layer's output while training.
    """
    import torch
    from torch.nn.functional import conv2d, linear

    def convolve(name: str, values: Tensor) -> Tensor:
        weight = parameters[f"{name}.weight"]
        return conv2d(values, weight, parameters[f"{name}.bias"], padding=(0, weight.shape[-1] // 2))

    drop = drop or (lambda values: values)
    values = convolve("stem", profiles.permute(0, 2, 1).unsqueeze(2)).relu_()
    block = 0
    while f"block{block}.in.weight" in parameters:
        inner = drop(convolve(f"block{block}.in", values).relu_())
        values = (values + convolve(f"block{block}.out", inner)).relu_()
        block += 1
    # Flattened, not averaged, over levels: the same signal means another thing higher up.
    joined = torch.cat([values.permute(0, 2, 3, 1).flatten(1), surface], dim=1)
    joined = drop(linear(joined, parameters["join.weight"], parameters["join.bias"]).relu_())
    return linear(joined, parameters["head.weight"], parameters["head.bias"])


def row_losses(kind: Loss, scores: Tensor, target: Tensor) -> Tensor:
    """(N,) loss of scores (N, B) against observed fractions (N, B).

    `kl`: Kullback-Leibler divergence of the observed from the predicted fractions, less the entropy of the observed,
    which no parameter changes. `rps`: ranked probability score, the sum over edges of squared differences of the
    cumulative fractions (Epstein 1969).
    """
    if kind == "kl":
        return -(target * scores.log_softmax(dim=1)).sum(dim=1)
    return (scores.softmax(dim=1) - target).cumsum(dim=1)[:, :-1].square().sum(dim=1)


def learning_rate(schedule: Schedule, peak: float, progress: float) -> float:
    """The rate at `progress` 0..1 of training: half a cosine from the peak to nearly 0; `one_cycle` first climbs to
    the peak over the first quarter (Smith and Topin 2019)."""
    warm = 0.25 if schedule == "one_cycle" else 0.0
    if progress < warm:
        return peak * (0.04 + 0.96 * progress / warm)
    return peak * (1e-3 + (1 - 1e-3) * 0.5 * (1 + math.cos(math.pi * (progress - warm) / (1 - warm))))


def dropout(rate: float, generator: torch.Generator) -> Callable[[Tensor], Tensor] | None:
    """Inverted dropout that draws from a generator of its own."""
    if not rate:
        return None

    def drop(values: Tensor) -> Tensor:
        import torch

        kept = torch.empty_like(values).bernoulli_(1 - rate, generator=generator)
        return values * kept.div_(1 - rate)

    return drop


def choose_device(device: Device) -> str:
    """`cpu` or `cuda`; `auto` takes a GPU where there is one."""
    import torch

    return device if device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def reproducible(device: str) -> Iterator[Workers]:
    """Run torch with deterministic algorithms and one thread an operation, and put its settings back.

    Work is cut in the same pieces whatever the machine has, so that the number of cores changes no byte: `Workers`
    runs pieces side by side on a CPU. What changes bytes: the kind of CPU or GPU and the version of torch.
    """
    import os

    import torch

    gpu = device == "cuda"
    before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    memory: Any = torch.utils.deterministic
    filled = memory.fill_uninitialized_memory
    if gpu:
        # On a CPU the operations used here are deterministic anyhow, and the switch imports torch's compiler: 2 s.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        # No memory is read before it is written here; filling it first would cost a twentieth of the time.
        memory.fill_uninitialized_memory = False
    torch.set_num_threads(1)
    cores = 1 if gpu else len(os.sched_getaffinity(0))
    try:
        with ThreadPoolExecutor(cores) as pool:
            yield Workers(pool if cores > 1 else None)
    finally:
        if gpu:
            torch.use_deterministic_algorithms(before[0])
        memory.fill_uninitialized_memory = filled
        torch.set_num_threads(before[1])


class Workers:
    """Maps a function over pieces of work on all cores, results in the order of the pieces."""

    def __init__(self, pool: ThreadPoolExecutor | None) -> None:
        self._pool = pool

    def map(self, function: Callable[[In], Out], pieces: Iterable[In]) -> list[Out]:
        """`[function(piece) for piece in pieces]`."""
        return list(self._pool.map(function, pieces) if self._pool else map(function, pieces))


def predicted_fractions(
    parameters: Parameters,
    examples: Examples,
    scale: float,
    offset: NDArray[np.float64],
    workers: Workers,
    device: str = "cpu",
) -> NDArray[np.float64]:
    """(N, B) softmax of `scale` * scores + `offset` (B,), in float64; `examples.fractions` is not looked at."""
    scores = predicted_scores(parameters, examples, workers, device) * scale + offset
    scores -= scores.max(axis=1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=1, keepdims=True)
    return scores


def predicted_scores(
    parameters: Parameters, examples: Examples, workers: Workers, device: str = "cpu"
) -> NDArray[np.float64]:
    """(N, B) scores of the bands before softmax."""
    import torch

    def scores(at: int) -> NDArray[np.float64]:
        block = slice(at, at + PREDICT_ROWS)
        profiles, surface = torch.from_numpy(examples.profiles[block]), torch.from_numpy(examples.surface[block])
        with torch.no_grad():
            found = logits(parameters, profiles.to(device), surface.to(device))
        values: NDArray[np.float64] = found.cpu().numpy().astype(np.float64)
        return values

    return np.concatenate(workers.map(scores, range(0, len(examples.profiles), PREDICT_ROWS)))
