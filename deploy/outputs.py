"""How one output of the graph compares with the model's, over all images: arrays, element by element."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

RTOL = 1e-3
ATOL = 1e-5
ARGMAX_AGREEMENT = 0.9999


@dataclass
class Agreement:
    """How much of what was compared is equal."""

    equal: int = 0
    of: int = 0

    def add(self, equal: int, of: int) -> None:
        """Add one comparison."""
        self.equal += equal
        self.of += of

    @property
    def share(self) -> float:
        """Between 0 and 1; nothing compared is 0."""
        return self.equal / self.of if self.of else 0.0

    @property
    def passed(self) -> bool:
        """Whether it is as large as promised."""
        return self.share >= ARGMAX_AGREEMENT


@dataclass
class Output:
    """How far one output is from the reference, over all comparisons.

    Attributes:
        max_abs: largest |ONNX − PyTorch|.
        max_excess: largest |ONNX − PyTorch| / (atol + rtol · |PyTorch| + 2 · rounding); within tolerance up to 1.
        argmax: rows (pixels) with the same arg max over the classes.
        rounding: largest |PyTorch − PyTorch in float64|, where it was asked for; 0 where it was not.
    """

    max_abs: float = 0.0
    max_excess: float = 0.0
    argmax: Agreement = field(default_factory=Agreement)
    rounding: float = 0.0
    fault: str | None = None

    @staticmethod
    def distance(found: NDArray, wanted: NDArray) -> float:
        """Largest |found − wanted|: what `rounding` is measured in."""
        return float(np.abs(found - wanted).max())

    def update(self, found: NDArray, wanted: NDArray, rounding: Callable[[int], float] | None = None) -> None:
        """Add one batch: N×C×… found and wanted.

        `rounding` tells how far PyTorch itself is from float64 on one image of the batch. It is asked where the two
        differ by more than the tolerance or in an arg max: a graph may be as far from float64 as PyTorch is, so the two
        may be twice as far from each other, and PyTorch cannot tell two classes apart that are nearer than that.
        """
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            self.fault = f"{found.dtype}{found.shape}, PyTorch gives {wanted.dtype}{wanted.shape}"
            return
        if not (np.isfinite(found).all() and np.isfinite(wanted).all()):
            self.fault = "not finite"
            return
        difference, tolerance = np.abs(found - wanted), ATOL + RTOL * np.abs(wanted)
        best = found.argmax(1)
        same = best == wanted.argmax(1)
        lead = wanted.max(1) - np.take_along_axis(wanted, best[:, None], 1)[:, 0]
        if rounding:
            for image in range(len(found)):
                slack = 2 * self.rounding
                explained = (difference[image] <= tolerance[image] + slack).all()
                if not (explained and (same[image] | (lead[image] < slack)).all()):
                    self.rounding = max(self.rounding, rounding(image))
        tolerance += 2 * self.rounding
        same |= lead < 2 * self.rounding
        self.max_abs = max(self.max_abs, float(difference.max()))
        self.max_excess = max(self.max_excess, float((difference / tolerance).max()))
        self.argmax.add(int(same.sum()), same.size)

    @property
    def passed(self) -> bool:
        """Whether the promise holds; nothing compared is a failure."""
        return self.fault is None and self.max_excess <= 1.0 and self.argmax.passed

    def reason(self) -> str:
        """Why it did not pass."""
        return (
            f"max |Δ| {self.max_abs:.3g}, {self.max_excess:.3g} × the tolerance, "
            f"arg max equal in {self.argmax.equal} of {self.argmax.of}"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, with the verdict."""
        return {**asdict(self), "argmax_agreement": self.argmax.share, "passed": self.passed}
