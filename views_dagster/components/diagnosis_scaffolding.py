"""`dg scaffold defs` for what learns from columns: column sets, models of band fractions, ensembles of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

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


class ColumnSetParameters(Parameters):
    """Options of a new column set."""

    like: str | None = Field(default=None, description="Column set whose sources and levels it takes over.")


class ColumnSetScaffolder(EntryScaffolder[ColumnSetParameters]):
    """A column set like another one."""

    parameters, room = ColumnSetParameters, "features"

    def settings(self, name: str, system: Path, given: ColumnSetParameters) -> Settings:
        """Everything of `like` but what it is for."""
        like = chosen("column set", given.like, neighbours(system, self.room))
        shared = (
            *("columns", "rain", "members", "edges", "levels"),
            *("profiles", "wind", "surface", "surface_wind", "static"),
        )
        taken = {key: list(like[key]) if key == "edges" else like[key] for key in shared if like.get(key)}
        return {"description": "What it is for."} | taken


class DiagnosisModelParameters(Parameters):
    """Options of a new model of band fractions."""

    features: str | None = Field(default=None, description="Name of the column set it learns from.")
    learner: str = Field(default="column_network", description="Kind of learner.")


class DiagnosisModelScaffolder(EntryScaffolder[DiagnosisModelParameters]):
    """A model that learns from an existing column set."""

    parameters, room = DiagnosisModelParameters, "models"
    scores = (
        "Fractions skill score at each threshold on unseen events, against climatology and the raw weather model; "
        "where it was worst. The materialisation of its evaluation is a start."
    )

    def settings(self, name: str, system: Path, given: DiagnosisModelParameters) -> Settings:
        """The column set given, or the first."""
        sets = neighbours(system, "features")
        chosen("column set", given.features, sets)
        require_learner("DiagnosisModel", given.learner)
        return {
            "description": "What it is, in a sentence or two.",
            "features": given.features or next(iter(sets)),
            "learner": {"kind": given.learner},
            "maturity": "candidate",
        }

    def sections(self, settings: Settings) -> str:
        """Its features and its learner."""
        return (
            f"## Features\n\n`{settings['features']}`. Which variables and levels matter, and why.\n\n"
            f"## Learner\n\n`{settings['learner']['kind']}`. The settings that differ from the defaults, and why."
        )


class DiagnosisEnsembleParameters(MembersParameters):
    """Options of a new ensemble of band fractions."""

    method: Literal["linear_pool", "trained_pool", "median_pool"] = Field(
        default="linear_pool", description="How members become one."
    )


class DiagnosisEnsembleScaffolder(MembersScaffolder[DiagnosisEnsembleParameters]):
    """An ensemble of existing models of one column set."""

    parameters = DiagnosisEnsembleParameters
    scores = "Fractions skill score at each threshold on unseen events, against its members."

    def subject(self, model: Settings, features: Mapping[str, Settings]) -> object:
        """Its column set."""
        return model["features"]
