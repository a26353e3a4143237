"""The error of an op that the stand-in for `mmcv._ext` does not have."""

from train.errors import BackendError


class UnsupportedOpError(BackendError, NotImplementedError):
    """An op of the compiled mmcv was called that only the compiled mmcv has.

    Args:
        op: The op's name in `mmcv._ext`, with the mode if only that one is missing.
    """

    def __init__(self, op: str) -> None:
        super().__init__(
            f"this model needs the mmcv op '{op}', which Slipway's stand-in for mmcv._ext does not have; "
            "use a model without it, or install the compiled mmcv 2.1.0 in place of mmcv-lite"
        )
