"""What a user did, found or lacks that stops the work, and the exit code each gives.

Any exception with an `exit_code` attribute is a message for the user: the command line prints its text, never a
traceback. `slipway_runtime.errors` carries the same codes, because that package stands alone.
"""


class SlipwayError(Exception):
    """Base of every error meant for the user. The text says what was expected, what was found and what to do."""

    exit_code = 1


class UsageError(SlipwayError):
    """A wrong command line or configuration."""

    exit_code = 2


class InputError(SlipwayError):
    """Bad data, a bad checkpoint or a bad model file; a disk that is full or cannot be written."""

    exit_code = 3


class BackendError(SlipwayError):
    """Something the machine lacks: a backend, a driver, a version, a connection."""

    exit_code = 4


class VerificationError(SlipwayError):
    """Numbers that do not agree: a failed parity check or accuracy gate."""

    exit_code = 5


class MeasurementError(SlipwayError):
    """A failed speed gate or an invalid measurement."""

    exit_code = 6
