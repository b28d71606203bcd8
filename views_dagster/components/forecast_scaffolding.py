"""`dg scaffold defs` for what forecasts units and steps: models, ensembles, reconciliations, others' forecasts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from views_dagster.components.scaffolding import (
    EntryScaffolder,
    MembersParameters,
    MembersScaffolder,
    Parameters,
    Settings,
    chosen,
    neighbours,
    require_learner,
)

SCORES: Final = (
    "CRPS, and the shares of its intervals that held, against conflictology and the last value over the same months "
    "and units: which months, and where it was worst. The backtest in the artifact's metadata is a start."
)


class TargetParameters(Parameters):
    """Options of what forecasts a queryset's target."""

    features: str | None = Field(default=None, description="Name of the queryset whose units and targets it has.")
    target: str | None = Field(default=None, description="Name of one of the queryset's targets.")

    def within(self, system: Path) -> Settings:
        """The queryset and target given, or the first of each."""
        querysets = neighbours(system, "features")
        targets = chosen("queryset", self.features, querysets)["targets"]
        chosen("target", self.target, targets)
        return {"features": self.features or next(iter(querysets)), "target": self.target or next(iter(targets))}


class ModelParameters(TargetParameters):
    """Options of a new model."""

    learner: str = Field(default="step_shift", description="Kind of learner.")


class ModelScaffolder(EntryScaffolder[ModelParameters]):
    """A model that learns from an existing queryset."""

    parameters, room, scores = ModelParameters, "models", SCORES

    def settings(self, name: str, system: Path, given: ModelParameters) -> Settings:
        """The queryset, target and learner given."""
        require_learner("ForecastModel", given.learner)
        return {
            "description": "What it is, in a sentence or two.",
            **given.within(system),
            "learner": {"kind": given.learner},
            "maturity": "candidate",
        }

    def sections(self, settings: Settings) -> str:
        """Its features and its learner."""
        features, target, learner = settings["features"], settings["target"], settings["learner"]["kind"]
        return (
            f"## Features\n\n`{features}`, target `{target}`. Which columns matter, and why.\n\n"
            f"## Learner\n\n`{learner}`. The settings that differ from the defaults, and why."
        )


class EnsembleParameters(MembersParameters):
    """Options of a new ensemble."""

    method: Literal["mixture", "vincentization", "trained_weights"] = Field(
        default="mixture", description="How members become one forecast."
    )


class EnsembleScaffolder(MembersScaffolder[EnsembleParameters]):
    """An ensemble of existing models of one target and level."""

    parameters, scores = EnsembleParameters, SCORES

    def subject(self, model: Settings, features: Mapping[str, Settings]) -> object:
        """Its level and target."""
        queryset = features.get(model["features"])
        return None if queryset is None else (queryset["level"], model["target"])


class ReconciliationParameters(Parameters):
    """Options of a new reconciliation."""

    cells: str = Field(description="Model or ensemble of the cells.")
    parents: str = Field(description="Model or ensemble of the units that hold the cells.")


class ReconciliationScaffolder(EntryScaffolder[ReconciliationParameters]):
    """A forecast of cells scaled to one of the units that hold them."""

    parameters, room, scores = ReconciliationParameters, "ensembles", SCORES

    def settings(self, name: str, system: Path, given: ReconciliationParameters) -> Settings:
        """The two forecasts given."""
        known = {**neighbours(system, "models"), **neighbours(system, "ensembles")}
        cells = chosen("model or ensemble", given.cells, known)
        chosen("model or ensemble", given.parents, known)
        return {
            "description": "What it is, in a sentence or two.",
            "cells": given.cells,
            "parents": given.parents,
            "draws": cells["draws"],
            "maturity": "candidate",
        }

    def sections(self, settings: Settings) -> str:
        """What is scaled to what."""
        cells, parents = settings["cells"], settings["parents"]
        return f"## Cells and totals\n\nShares from `{cells}`, totals from `{parents}`. Why these two."


class ExternalParameters(TargetParameters):
    """Options of a new forecast from elsewhere."""

    path: str | None = Field(default=None, description="The file, with {month} where the month stands.")


class ExternalScaffolder(EntryScaffolder[ExternalParameters]):
    """A forecast that arrives as a file, which need not be there to load."""

    parameters, room, scores = ExternalParameters, "models", SCORES

    def settings(self, name: str, system: Path, given: ExternalParameters) -> Settings:
        """The file, queryset and target given."""
        return {
            "description": "Whose forecast it is, in a sentence or two.",
            "path": given.path or f"data/forecasts/{name}/{{month}}.parquet",
            **given.within(system),
            "maturity": "candidate",
        }

    def sections(self, settings: Settings) -> str:
        """Where it comes from."""
        return f"## Source\n\n`{settings['path']}`. Who makes it, when it arrives, and under which licence."
