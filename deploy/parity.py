"""Parity: the bundle's numbers against the unpatched PyTorch model's, on real images.

Two questions, each answered by numbers in `parity.json`:

- Does the runtime prepare an image as the mm* test pipeline does? Compared bit for bit.
- Does the graph compute what the model's own `predict` gives? Compared at rtol 1e-3 / atol 1e-5 (the bound of ONNX
  Runtime's own backend tests, with torch's rtol), with the arg max besides; for a dynamic graph at three sizes or more.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from deploy.reference import Reference
from slipway_runtime import Model
from train import data
from train.errors import InputError, VerificationError
from train.experiment import Record

RTOL = 1e-3
ATOL = 1e-5
ARGMAX_AGREEMENT = 0.9999
MIN_IMAGES = 32
MIN_SIZES = 3


@dataclass
class Output:
    """How far one output is from the reference, over all comparisons.

    Attributes:
        max_abs: largest |ONNX − PyTorch|.
        max_excess: largest |ONNX − PyTorch| / (atol + rtol · |PyTorch|); within tolerance up to 1.
        argmax_agreement: share of rows with the same arg max over the classes.
    """

    max_abs: float = 0.0
    max_excess: float = 0.0
    agreeing: int = 0
    rows: int = 0
    fault: str | None = None

    @property
    def argmax_agreement(self) -> float:
        """Share of rows whose arg max is the same."""
        return self.agreeing / self.rows if self.rows else 0.0

    def update(self, found: NDArray, wanted: NDArray) -> None:
        """Add one batch: N×C found and wanted."""
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            self.fault = f"{found.dtype}{found.shape}, PyTorch gives {wanted.dtype}{wanted.shape}"
            return
        if not (np.isfinite(found).all() and np.isfinite(wanted).all()):
            self.fault = "not finite"
            return
        difference = np.abs(found.astype(np.float64) - wanted)
        self.max_abs = max(self.max_abs, float(difference.max()))
        self.max_excess = max(self.max_excess, float((difference / (ATOL + RTOL * np.abs(wanted))).max()))
        self.agreeing += int((found.argmax(1) == wanted.argmax(1)).sum())
        self.rows += len(found) * int(np.prod(found.shape[2:]))

    @property
    def passed(self) -> bool:
        """Whether the promise holds; nothing compared is a failure."""
        return (
            self.fault is None
            and self.rows > 0
            and self.max_excess <= 1.0
            and self.argmax_agreement >= ARGMAX_AGREEMENT
        )


@dataclass
class Parity:
    """The content of `parity.json`."""

    images: int = 0
    sizes: list[list[int]] = field(default_factory=list)
    preprocess_identical: int = 0
    outputs: dict[str, Output] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether everything promised was seen to hold."""
        return not self.faults and bool(self.outputs) and all(output.passed for output in self.outputs.values())

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, with the tolerances and the verdict."""
        return {
            "passed": self.passed,
            "reference": "unpatched PyTorch model, its own predict, CPU",
            "tolerance": {"rtol": RTOL, "atol": ATOL, "argmax_agreement": ARGMAX_AGREEMENT},
            "images": self.images,
            "sizes": self.sizes,
            "preprocess_identical": self.preprocess_identical,
            "outputs": {
                name: {**asdict(output), "argmax_agreement": output.argmax_agreement, "passed": output.passed}
                for name, output in self.outputs.items()
            },
            "faults": self.faults,
        }

    def summary(self) -> str:
        """One line for the person at the terminal."""
        worst = max((output.max_abs for output in self.outputs.values()), default=float("nan"))
        verdict = "passed" if self.passed else "FAILED"
        return f"parity {verdict}: {self.images} images, {len(self.sizes)} sizes, max |Δ| {worst:.2e}"

    def require(self, consequence: str = "export again") -> None:
        """Raise VerificationError, with the reasons and what follows from them, unless parity passed."""
        if self.passed:
            return
        reasons = list(self.faults)
        for name, output in self.outputs.items():
            if not output.passed:
                reasons.append(
                    f"output '{name}': "
                    + (
                        output.fault
                        or f"max |Δ| {output.max_abs:.3g}, {output.max_excess:.3g} × the tolerance, "
                        f"arg max equal in {output.agreeing} of {output.rows}"
                    )
                )
        raise VerificationError(f"the graph does not compute what the model does: {'; '.join(reasons)}; {consequence}")


def validation_images(record: Record, count: int = MIN_IMAGES) -> list[Path]:
    """Validation images to verify on, spread over the set; training images fill up a small one."""
    root = Path(record.data["root"])
    if not (root / "val.txt").is_file():
        raise InputError(
            f"{root}: the data set that the model was trained on is gone; prepare it again with `make train-…`"
        )
    paths = [path for path, _ in data.read_split(root, "val")]
    step = max(1, len(paths) // count)
    chosen = paths[::step][:count]
    if len(chosen) < count and (root / "train.txt").is_file():
        chosen += [path for path, _ in data.read_split(root, "train")][: count - len(chosen)]
    return chosen


def compare(model: Model, reference: Reference, images: Sequence[Path]) -> Parity:
    """Compare a loaded bundle with the unpatched model on image files.

    Raises:
        InputError: fewer than 32 images.
    """
    if len(images) < MIN_IMAGES:
        raise InputError(f"{len(images)} images to verify on, at least {MIN_IMAGES} are needed; bring more with DATA=")
    parity = Parity(images=len(images))
    wanted_inputs = [tensor.numpy() for tensor in reference.load_images(list(images))]
    inputs = [model.preprocess(path) for path in images]
    parity.preprocess_identical = sum(
        np.array_equal(ours, theirs) for ours, theirs in zip(inputs, wanted_inputs, strict=True)
    )
    if parity.preprocess_identical < len(images):
        first = next(
            str(path) for path, a, b in zip(images, inputs, wanted_inputs, strict=True) if not np.array_equal(a, b)
        )
        parity.faults.append(
            f"{len(images) - parity.preprocess_identical} images are prepared otherwise than by the test pipeline, first {first}"
        )

    for batch in _batches(model, wanted_inputs):
        size = list(batch.shape[2:])
        if size not in parity.sizes:
            parity.sizes.append(size)
        _compare_batch(model, reference, batch, parity)
    if _dynamic_size(model) and len(parity.sizes) < MIN_SIZES:
        parity.faults.append(
            f"compared at {len(parity.sizes)} sizes, at least {MIN_SIZES} are needed for a dynamic graph"
        )
    return parity


def _compare_batch(model: Model, reference: Reference, batch: NDArray, parity: Parity) -> None:
    tensor = torch.from_numpy(batch)
    wanted = {name: value.numpy() for name, value in reference.predict(tensor).items()}
    # The function the benchmark times must be the one that `predict` evaluates.
    for name, value in reference(tensor).items():
        if not np.array_equal(value.numpy(), wanted[name]):
            parity.faults.append(f"the reference's own two ways to output '{name}' disagree")
    found = model.session.run({model.session.inputs[0].name: batch})
    if set(found) != set(wanted):
        parity.faults.append(f"outputs {sorted(found)}, PyTorch gives {sorted(wanted)}")
    for name in sorted(set(found) & set(wanted)):
        parity.outputs.setdefault(name, Output()).update(found[name], wanted[name])


def _batches(model: Model, inputs: list[NDArray]) -> Iterator[NDArray]:
    """All images at their own size, in batches of uneven length; then, for a dynamic graph, some at other sizes."""
    shape = model.session.inputs[0].shape
    lengths = [7, 1, 4, 8] if isinstance(shape[0], str) else [1]
    start = turn = 0
    while start < len(inputs):
        length = lengths[turn % len(lengths)]
        yield from _by_size(inputs[start : start + length])
        start, turn = start + length, turn + 1
    if _dynamic_size(model):
        for height, width in _other_sizes(*inputs[0].shape[1:]):
            chosen = inputs[: lengths[0]]
            yield np.stack(
                [cv2.resize(image.transpose(1, 2, 0), (width, height)).transpose(2, 0, 1) for image in chosen]
            )


def _by_size(images: list[NDArray]) -> Iterator[NDArray]:
    sizes = sorted({image.shape for image in images})
    for size in sizes:
        yield np.stack([image for image in images if image.shape == size])


def _other_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Larger and not square, smaller and odd, much larger."""
    return [(height + 32, width), (height * 3 // 4 | 1, width - 5), (height, width * 3 // 2 | 1)]


def _dynamic_size(model: Model) -> bool:
    return any(isinstance(axis, str) for axis in model.session.inputs[0].shape[2:])
