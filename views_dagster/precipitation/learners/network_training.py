"""Training of the column network: epochs, early stopping on validation rows, and checkpoints to resume from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from views_dagster.errors import ArtifactError, ForecastError
from views_dagster.precipitation.learners.base import Checkpoint, Report
from views_dagster.precipitation.learners.inputs import ranked_score
from views_dagster.precipitation.learners.network_calibration import calibration
from views_dagster.precipitation.learners.network_parts import (
    SHARD_ROWS,
    Arrays,
    Device,
    Examples,
    Loss,
    Schedule,
    Shape,
    Workers,
    dropout,
    initial_parameters,
    learning_rate,
    logits,
    predicted_fractions,
    predicted_scores,
    row_losses,
)
from views_dagster.precipitation.rebalancing import Rebalanced
from views_dagster.seeds import seed_for

if TYPE_CHECKING:
    import torch
    from torch import Tensor


PRIOR_ROWS: Final = 1 << 15
"""Training rows by which the prior correction is refined."""


class Plan(BaseModel):
    """Settings of a training."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    loss: Loss = Field(
        "kl", description="`kl`: divergence of the observed from the predicted fractions; `rps`: ordered bands"
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="share of a layer's outputs set to 0 while training")
    batch_size: int = Field(512, ge=1, description="columns a step")
    learning_rate: float = Field(2e-3, gt=0, description="the highest of the schedule")
    schedule: Schedule = Field(
        "one_cycle", description="of the learning rate: `one_cycle` climbs to it first, `cosine` falls from it"
    )
    weight_decay: float = Field(1e-4, ge=0, description="of AdamW, on weights and not on biases")
    clip: float = Field(1.0, gt=0, description="largest norm of a batch's gradient")
    epochs: int = Field(20, ge=1, le=100_000, description="most passes over the training rows")
    patience: int = Field(5, ge=1, description="epochs without a better validation score after which training stops")
    device: Device = Field("auto", description="`auto` takes a GPU where there is one")


@dataclass
class Progress:
    """The state of a training after a number of whole epochs.

    Attributes:
        scores: ranked probability score of the validation rows after each epoch.
        best, best_offset: parameters of the epoch with the lowest score, and what is added to their scores (B,).
    """

    parameters: dict[str, Tensor]
    optimiser: torch.optim.AdamW
    best_offset: NDArray[np.float64]
    best: Arrays = field(default_factory=dict)
    scores: list[float] = field(default_factory=list)

    @property
    def best_epoch(self) -> int:
        """The first epoch with the lowest score."""
        return int(np.argmin(self.scores))

    def finished(self, plan: Plan) -> bool:
        """Whether all epochs are done or the last `patience` ones brought nothing."""
        done = len(self.scores)
        return done >= plan.epochs or (done > 0 and done - 1 - self.best_epoch >= plan.patience)

    def to_bytes(self, identity: str) -> bytes:
        """The state, and of which training it is, as safetensors."""
        from safetensors.numpy import save

        told = json.dumps({"identity": identity, "scores": self.scores}).encode()
        arrays: Arrays = {"told": np.frombuffer(told, dtype=np.uint8), "best_offset": self.best_offset}
        arrays |= {f"best.{name}": value for name, value in self.best.items()}
        for name, parameter in self.parameters.items():
            arrays[f"now.{name}"] = to_array(parameter)
            for kind, value in self.optimiser.state[parameter].items():
                arrays[f"{kind}.{name}"] = to_array(value)
        return save(arrays)

    def resume(self, state: bytes, identity: str) -> None:
        """Go on from `state`, or stay at the start where it is of another training.

        Raises:
            ArtifactError: the state is damaged.
        """
        import torch
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            arrays = load(state)
            told = json.loads(arrays.pop("told").tobytes())
            if told["identity"] != identity:
                return
            with torch.no_grad():
                for name, parameter in self.parameters.items():
                    parameter.copy_(torch.from_numpy(arrays[f"now.{name}"]))
                    self.optimiser.state[parameter] = {
                        "step": torch.from_numpy(arrays[f"step.{name}"]).to(parameter.device),
                        **{kind: _like(parameter, arrays[f"{kind}.{name}"]) for kind in ("exp_avg", "exp_avg_sq")},
                    }
            self.best = {name: arrays[f"best.{name}"] for name in self.parameters}
            self.best_offset = arrays["best_offset"]
            self.scores = told["scores"]
        except (SafetensorError, KeyError, ValueError) as error:
            raise ArtifactError(
                f"the checkpoint of a training is damaged ({error}); delete it to start anew"
            ) from error


def train_network(
    plan: Plan,
    shape: Shape,
    examples: Examples,
    rebalanced: Rebalanced,
    validation: Examples,
    *,
    device: str,
    workers: Workers,
    seed: int,
    report: Report | None,
    checkpoint: Checkpoint | None,
) -> Progress:
    """Train on the rebalanced rows of the examples, and stop by the score of the validation rows.

    Where rows were rebalanced, the prior correction is refined after each epoch, so that over training rows as they
    were the mean predicted fractions equal the mean observed ones: boxes with rain of several bands do not obey label
    shift, and the ratio of priors alone would make such rows too dry. After a resumption the epochs before it are
    reported again, so that whoever listens sees the whole training.

    Raises:
        ForecastError: the training diverged.
        ArtifactError: the checkpoint is damaged.
    """
    import torch

    rows, weights = rebalanced.rows, rebalanced.weights
    shares = np.average(examples.fractions[rows], axis=0, weights=weights)
    parameters = {
        name: value.to(device).requires_grad_() for name, value in initial_parameters(shape, seed, shares).items()
    }
    groups = [
        {"params": [value for value in parameters.values() if value.ndim > 1], "weight_decay": plan.weight_decay},
        {"params": [value for value in parameters.values() if value.ndim == 1], "weight_decay": 0.0},
    ]
    prior = np.log(rebalanced.correction)
    as_they_were = None if rebalanced.untouched else _sample(examples, seed)
    progress = Progress(parameters, torch.optim.AdamW(groups, lr=plan.learning_rate, fused=True), prior)
    identity = _identity(plan, seed, shape, examples, validation, rows, weights) if checkpoint else ""
    if checkpoint and (state := checkpoint.load()) is not None:
        progress.resume(state, identity)
        if progress.scores:
            checkpoint.resumed(len(progress.scores))
    for epoch, score in enumerate(progress.scores):
        if report:
            report(epoch, score)

    tensors = examples.tensors(device)
    where, weight = torch.from_numpy(rows).to(device), torch.from_numpy(weights).to(device)
    while not progress.finished(plan):
        epoch = len(progress.scores)
        _run_epoch(plan, progress, tensors, where, weight, epoch, seed, workers)
        offset = prior
        if as_they_were:
            scores = predicted_scores(parameters, as_they_were, workers, device)
            offset = calibration(scores, as_they_were.fractions, prior, temperature=False)[1]
        fractions = predicted_fractions(parameters, validation, 1.0, offset, workers, device)
        score = ranked_score(fractions, validation.fractions)
        if not np.isfinite(score):
            raise ForecastError(f"the training diverged in epoch {epoch}; give it a lower learning rate")
        progress.scores.append(score)
        if progress.best_epoch == epoch:
            progress.best_offset = offset
            progress.best = {name: to_array(value) for name, value in parameters.items()}
        if checkpoint:
            checkpoint.save(progress.to_bytes(identity))
        if report:
            report(epoch, score)
    return progress


def _run_epoch(
    plan: Plan,
    progress: Progress,
    tensors: tuple[Tensor, Tensor, Tensor],
    rows: Tensor,
    weights: Tensor,
    epoch: int,
    seed: int,
    workers: Workers,
) -> None:
    """One pass over the rows in a seeded order; rows that fill no batch wait for another epoch's order."""
    import torch

    profiles, surface, fractions = tensors
    names, values = list(progress.parameters), list(progress.parameters.values())
    batch = min(plan.batch_size, len(rows))
    batches = len(rows) // batch
    shard = SHARD_ROWS if rows.device.type == "cpu" else batch
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed_for(seed, "order", epoch)))
    order = order.to(rows.device)

    def gradients(piece: tuple[int, Tensor]) -> tuple[Tensor, ...]:
        part, at = piece
        taken = rows[at]
        drop = None
        if plan.dropout:
            generator = torch.Generator(rows.device).manual_seed(seed_for(seed, "dropout", epoch, step, part))
            drop = dropout(plan.dropout, generator)
        scores = logits(progress.parameters, profiles[taken], surface[taken], drop)
        loss = (row_losses(plan.loss, scores, fractions[taken]) * weights[at]).sum() / batch
        return torch.autograd.grad(loss, values)

    for step in range(batches):
        rate = learning_rate(plan.schedule, plan.learning_rate, (epoch * batches + step) / (plan.epochs * batches))
        for group in progress.optimiser.param_groups:
            group["lr"] = rate
        pieces = torch.split(order[step * batch : (step + 1) * batch], shard)
        found = workers.map(gradients, enumerate(pieces))
        for position, name in enumerate(names):
            progress.parameters[name].grad = _sum(piece[position] for piece in found)
        torch.nn.utils.clip_grad_norm_(values, plan.clip)
        progress.optimiser.step()


def _sample(examples: Examples, seed: int) -> Examples:
    """At most `PRIOR_ROWS` of the examples, without replacement."""
    count = len(examples.fractions)
    chosen = np.random.default_rng(seed_for(seed, "prior")).permutation(count)[:PRIOR_ROWS]
    chosen.sort()
    return Examples(examples.profiles[chosen], examples.surface[chosen], examples.fractions[chosen])


def _sum(parts: Iterable[Tensor]) -> Tensor:
    first, *rest = parts
    for part in rest:
        first = first + part
    return first


def to_array(tensor: Tensor) -> NDArray[Any]:
    """A copy of a tensor's values in row-major order."""
    array: NDArray[Any] = np.array(tensor.detach().cpu().numpy(), order="C", copy=True)
    return array


def _like(parameter: Tensor, values: NDArray[Any]) -> Tensor:
    import torch

    return torch.empty_like(parameter, requires_grad=False).copy_(torch.from_numpy(values))


def _identity(plan: Plan, seed: int, shape: Shape, first: Examples, second: Examples, *rows: NDArray[Any]) -> str:
    """A digest of everything that decides what a training gives."""
    import torch

    digest = hashlib.blake2b(f"{plan.model_dump_json()} {seed} {shape} {torch.__version__}".encode(), digest_size=16)
    for array in (*vars(first).values(), *vars(second).values(), *rows):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
