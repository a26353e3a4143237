"""Errors meant for the user, each with the exit code that the command line gives.

The same codes as the rest of Slipway: 2 usage, 3 bad input, 4 environment, 5 verification.
"""


class SlipwayRuntimeError(Exception):
    """Base. The text says what was expected, what was found and what to do."""

    exit_code = 1


class UsageError(SlipwayRuntimeError):
    """A wrong argument."""

    exit_code = 2


class BundleError(SlipwayRuntimeError):
    """A bundle that is missing, incomplete, altered or of an unknown schema."""

    exit_code = 3


class ImageError(SlipwayRuntimeError):
    """An image that cannot be read as one."""

    exit_code = 3


class SessionError(SlipwayRuntimeError):
    """An engine or device that this machine lacks, or an input that the engine refuses."""

    exit_code = 4


class VerificationError(SlipwayRuntimeError):
    """Outputs that cannot be a prediction: a score that is not a finite number."""

    exit_code = 5
