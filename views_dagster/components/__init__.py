"""Component classes: they turn a `defs.yaml` of the catalogue into assets and call the science."""

from views_dagster.components.column_set import ColumnSet
from views_dagster.components.diagnosis_ensemble import DiagnosisEnsemble
from views_dagster.components.diagnosis_model import DiagnosisModel
from views_dagster.components.ensemble import Ensemble
from views_dagster.components.external import ExternalForecast
from views_dagster.components.model import ForecastModel
from views_dagster.components.queryset import Queryset
from views_dagster.components.reconciliation import Reconciliation
from views_dagster.components.source import Source

__all__ = [
    "ColumnSet",
    "DiagnosisEnsemble",
    "DiagnosisModel",
    "Ensemble",
    "ExternalForecast",
    "ForecastModel",
    "Queryset",
    "Reconciliation",
    "Source",
]
