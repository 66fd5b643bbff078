"""Every error that gnnrec raises on purpose; each message names what is at fault and what to do."""

__all__ = [
    "ConfigError",
    "DataError",
    "EncoderError",
    "GnnrecError",
    "MediaError",
    "MissingPackageError",
    "NotFittedError",
    "StorageError",
    "UnknownIdError",
    "UnsupportedError",
]


class GnnrecError(Exception):
    """Base of every error raised by gnnrec."""


class ConfigError(GnnrecError, ValueError):
    """An option has an unknown name or an impossible value."""


class DataError(GnnrecError, ValueError):
    """A frame, column, id or matrix handed in cannot be used as it is."""


class UnknownIdError(GnnrecError, LookupError):
    """A user or item id is not known to the data set or the fitted recommender."""


class MediaError(GnnrecError, ValueError):
    """A text, picture, sound or clip cannot be read."""


class EncoderError(GnnrecError, ValueError):
    """An encoder is unknown, fails its checksum, or differs from the one a model was fitted with."""


class NotFittedError(GnnrecError, RuntimeError):
    """A fitted recommender is needed; call ``fit`` first."""


class UnsupportedError(GnnrecError, RuntimeError):
    """The chosen ranker cannot do this; the message says which can."""


class StorageError(GnnrecError, OSError):
    """A file cannot be written, read or trusted (truncated, tampered, of a newer format)."""


class MissingPackageError(GnnrecError, ImportError):
    """An optional package is not installed; the message gives the extra that installs it."""
