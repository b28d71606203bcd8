"""What the platform raises when the world, not the code, is wrong.

Each message says what was wrong, where, and what to do. Anything else that is raised is a bug.
"""


class PlatformError(Exception):
    """Root of the errors that a person can act on."""


class SourceError(PlatformError):
    """A source could not be read, or what it returned breaks its contract; nothing was stored."""


class GeographyError(PlatformError):
    """Cells or coordinates that are not on the grid, or cells that lie in no coarser unit."""


class QuerysetError(PlatformError):
    """A queryset names a column, transform or parameter that does not exist or does not fit."""


class MissingMonthsError(PlatformError):
    """A table lacks months that a consumer needs."""


class StorageError(PlatformError):
    """The folder, object store or database where things are kept cannot be reached, read or written to."""


class MixedSourcesError(PlatformError):
    """A table of an invented world was about to be read or written as one of real data, or the other way round."""


class DamagedTableError(PlatformError):
    """A stored table cannot be read: its log or a data file is gone or damaged."""


class RejectedMonthError(PlatformError):
    """A month that did not pass its checks was about to be built on."""


class PanelError(PlatformError):
    """A panel of features cannot be learned from: gaps, NaN, or units without rows."""


class ForecastError(PlatformError):
    """A forecast breaks the forecast contract and may not be stored or used."""


class ArtifactError(PlatformError):
    """A trained artifact does not match what it is asked to do."""
