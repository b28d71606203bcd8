"""`dg scaffold defs` for what learns from columns: column sets, models of band fractions, ensembles of them."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from views_dagster.components.blocks import CHOICES, CatalogueError, resolved
from views_dagster.components.loading import KINDS_MODULE, rooms
from views_dagster.components.scaffolding import EntryScaffolder, Parameters, Settings, chosen, neighbours, readme_of


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

    def settings(self, name: str, system: Path, given: DiagnosisModelParameters) -> Settings:
        """The column set given, or the first."""
        sets = neighbours(system, "features")
        chosen("column set", given.features, sets)
        schema = rooms()[self.room][f"{KINDS_MODULE}.DiagnosisModel"].attributes_type.model_json_schema()
        chosen("learner", given.learner, resolved(schema["properties"]["learner"], schema)[CHOICES])
        return {
            "description": "What it is, in a sentence or two.",
            "features": given.features or next(iter(sets)),
            "learner": {"kind": given.learner},
            "maturity": "candidate",
        }

    def readme(self, name: str, settings: Settings) -> str:
        """What a reader of the catalogue wants to know of a model."""
        return readme_of(
            name,
            f"## Features\n\n`{settings['features']}`. Which variables and levels matter, and why.\n\n"
            f"## Learner\n\n`{settings['learner']['kind']}`. The settings that differ from the defaults, and why.\n",
            "Fractions skill score at each threshold on unseen events, against climatology and the raw weather model; "
            "where it was worst. The materialisation of its evaluation is a start.",
        )


class DiagnosisEnsembleParameters(Parameters):
    """Options of a new ensemble of band fractions."""

    members: list[str] = Field(default=[], description="Name of a member; give the option once for each.")
    method: Literal["linear_pool", "trained_pool", "median_pool"] = Field(
        default="linear_pool", description="How members become one."
    )


class DiagnosisEnsembleScaffolder(EntryScaffolder[DiagnosisEnsembleParameters]):
    """An ensemble of existing models."""

    parameters, room = DiagnosisEnsembleParameters, "ensembles"

    def settings(self, name: str, system: Path, given: DiagnosisEnsembleParameters) -> Settings:
        """The members given, or the first two models."""
        models = {name: model for name, model in neighbours(system, "models").items() if model["maturity"] != "retired"}
        for member in given.members:
            chosen("model", member, models)
        members = given.members or list(models)[:2]
        if len(members) < 2:
            raise CatalogueError("an ensemble needs two models; scaffold them first")
        return {
            "description": "What it is, in a sentence or two.",
            "members": members,
            "method": {"kind": given.method},
            "maturity": "candidate",
        }

    def readme(self, name: str, settings: Settings) -> str:
        """What a reader of the catalogue wants to know of an ensemble."""
        members = ", ".join(f"`{member}`" for member in settings["members"])
        return readme_of(
            name,
            f"## Members\n\n{members}. What each adds to the others.\n\n"
            f"## Method\n\n`{settings['method']['kind']}`, and why.\n",
            "Fractions skill score at each threshold on unseen events, against its members.",
        )
