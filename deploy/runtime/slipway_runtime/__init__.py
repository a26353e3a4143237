"""Predict from a Slipway bundle, without torch.

    import slipway_runtime

    model = slipway_runtime.load("work/digits/bundle")
    for result in model(["seven.png", "three.png"], batch_size=2):
        print(result.names[0], result.scores[0])

The same from a shell: `python -m slipway_runtime work/digits/bundle seven.png three.png`.
"""

from importlib.metadata import version

from slipway_runtime.errors import (
    BundleError,
    ImageError,
    SessionError,
    SlipwayRuntimeError,
    UsageError,
    VerificationError,
)
from slipway_runtime.manifest import Manifest
from slipway_runtime.model import Model, load
from slipway_runtime.preprocess import Prepared
from slipway_runtime.sessions import Session, open_session
from slipway_runtime.tasks import Result

__version__ = version("slipway-runtime")

__all__ = [
    "BundleError",
    "ImageError",
    "Manifest",
    "Model",
    "Prepared",
    "Result",
    "Session",
    "SessionError",
    "SlipwayRuntimeError",
    "UsageError",
    "VerificationError",
    "load",
    "open_session",
]
