"""The code location of a small catalogue, which pods load as they would load `views_dagster.definitions`.

`VIEWS_TEST_PROJECT` is the folder of the catalogue; everything else comes from the environment, as in a deployment.
"""

import os
import sys
from pathlib import Path
from unittest import mock

import dagster as dg

from views_dagster import definitions


@dg.definitions
def defs() -> dg.Definitions:
    """What `views_dagster.definitions` makes of the catalogue."""
    project = Path(os.environ["VIEWS_TEST_PROJECT"])
    sys.path.insert(0, str(project))
    with mock.patch.object(definitions, "PROJECT_ROOT", project):
        return definitions.environment_defs()
