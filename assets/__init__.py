"""The catalogue: what exists, one folder a thing, loaded by dg from its `defs.yaml` files."""

import warnings

from dagster import BetaWarning

# Partition mappings, checks over partitions and freshness policies are marked beta; each command would say so again.
warnings.filterwarnings("ignore", category=BetaWarning)
