"""Parity: the bundle's numbers against the unpatched PyTorch model's, on real images.

Three questions, each answered by numbers in `parity.json`:

- Does the runtime prepare an image as the mm* test pipeline does? Compared bit for bit.
- Does the graph compute what the model's own `predict` gives? Whatever the runtime runs through the graph (whole images,
  windows of them) is compared at rtol 1e-3 and atol 1e-5 (the bound of ONNX Runtime's own backend tests, with torch's
  rtol), with the arg max besides; detections are matched one to one (`deploy.matching`); for a dynamic graph at three
  sizes or more. Where that fails, the model in float64 says how much of the difference is PyTorch's own rounding.
- Does the runtime predict what the package's own model predicts, from file to result?
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice, product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from deploy.matching import IOU, MASK, MASK_IOU, SCORE
from deploy.outputs import ARGMAX_AGREEMENT, ATOL, RTOL, Agreement
from deploy.reference import Reference
from slipway_runtime import Model
from slipway_runtime.image import decode
from slipway_runtime.manifest import Pad, Step
from slipway_runtime.sessions import Bound, Feeds, Session
from train import tasks
from train.cli import say
from train.errors import InputError, VerificationError
from train.experiment import Record

MIN_IMAGES = 32
MIN_SIZES = 3
#: How many images, or windows of them, go through the model in float64 at the most: it is slow.
ROUNDING_IMAGES = 12


@dataclass
class Parity:
    """The content of `parity.json`."""

    images: int = 0
    sizes: list[list[int]] = field(default_factory=list)
    preprocess_identical: int = 0
    outputs: dict[str, Any] = field(default_factory=dict)
    predictions: Agreement = field(default_factory=Agreement)
    faults: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether everything promised was seen to hold."""
        return (
            not self.faults
            and bool(self.outputs)
            and all(output.passed for output in self.outputs.values())
            and self.predictions.passed
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, with the tolerances and the verdict."""
        return {
            "passed": self.passed,
            "reference": "unpatched PyTorch model, its own predict, CPU",
            "tolerance": {
                "rtol": RTOL,
                "atol": ATOL,
                "argmax_agreement": ARGMAX_AGREEMENT,
                "detections": {"iou": IOU, "score": SCORE, "mask": MASK, "mask_iou": MASK_IOU},
            },
            "images": self.images,
            "sizes": self.sizes,
            "preprocess_identical": self.preprocess_identical,
            "outputs": {name: output.to_dict() for name, output in self.outputs.items()},
            "predictions": {**asdict(self.predictions), "agreement": self.predictions.share},
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
            if not output.passed and not output.fault:
                reasons.append(f"output '{name}': {output.reason()}")
        if not reasons or (self.predictions.of and not self.predictions.passed):
            reasons.append(f"predictions are equal in {self.predictions.equal} of {self.predictions.of}")
        raise VerificationError(f"the graph does not compute what the model does: {'; '.join(reasons)}; {consequence}")


class _Stop(Exception):  # noqa: N818
    """A difference after which nothing else can be compared."""


class Compared(Session):
    """A session that also asks the reference, and notes how far the two are apart.

    Args:
        session: the graph.
        reference: the unpatched model.
        parity: where to note it.
    """

    name = "compared"

    def __init__(self, session: Session, reference: Reference, parity: Parity) -> None:
        super().__init__(session.inputs, session.outputs)
        self.session, self.reference, self.parity = session, reference, parity
        self._measured = 0

    def _run(self, feeds: Feeds) -> dict[str, NDArray]:
        found = self.session.run(feeds)
        (images,) = map(torch.from_numpy, feeds.values())
        wanted = {name: value.numpy() for name, value in self.reference.predict(images).items()}
        size = list(images.shape[2:])
        if size not in self.parity.sizes:
            self.parity.sizes.append(size)
        if len(self.parity.sizes) <= MIN_SIZES:
            # The function the benchmark times must be the one that `predict` evaluates.
            for name, value in self.reference(images).items():
                if not np.array_equal(value.numpy(), wanted[name]):
                    raise _Stop(f"the reference's own two ways to output '{name}' disagree")
        if set(found) != set(wanted):
            raise _Stop(f"outputs {sorted(found)}, PyTorch gives {sorted(wanted)}")
        task = self.reference.task
        ours, theirs = task.compared(found), task.compared(wanted)
        for name in sorted(ours):
            output = self.parity.outputs.setdefault(name, task.COMPARISON())
            output.update(ours[name], theirs[name], partial(self._rounding, name, images, wanted))
            if output.fault:
                raise _Stop(f"output '{name}': {output.fault}")
        return found

    def _rounding(self, name: str, images: torch.Tensor, wanted: dict[str, NDArray], image: int) -> float:
        """How far PyTorch is from PyTorch in float64 on an image of the batch, while there are not too many of them."""
        if self._measured >= ROUNDING_IMAGES:
            return 0.0
        self._measured += 1
        task, one = self.reference.task, slice(image, image + 1)
        exact = task.compared({key: value.numpy() for key, value in self.reference.exact(images[one]).items()})
        own = task.compared({key: value[one] for key, value in wanted.items()})
        return float(task.COMPARISON.distance(own[name], exact[name]))

    def _bind(self, feeds: Feeds) -> Bound:
        raise NotImplementedError("nothing is timed here")


def validation_images(record: Record, scratch: Path, count: int = MIN_IMAGES) -> list[Path]:
    """Validation images to verify on, spread over the set; training images fill up a small one, mirrored ones the rest.

    Args:
        record: of the training.
        scratch: an existing folder for mirrored images.
        count: how many.

    Raises:
        InputError: the data set is gone, or it has no image.
    """
    root = Path(record.data["root"])
    if not root.is_dir():
        raise InputError(
            f"{root}: the data set that the model was trained on is gone; prepare it again with `make train-…`"
        )
    samples = tasks.named(record.data["task"]).samples
    paths = [path for path, _ in samples(root, "val")]
    step = max(1, len(paths) // count)
    chosen = paths[::step][:count]
    if len(chosen) < count and record.data["images"].get("train"):
        chosen += [path for path, _ in samples(root, "train")][: count - len(chosen)]
    return chosen + _mirrored(chosen, scratch, count - len(chosen))


def _mirrored(paths: Sequence[Path], scratch: Path, count: int) -> list[Path]:
    """Up to three more images of each: turned about its vertical axis, its horizontal axis, and both."""
    made: list[Path] = []
    for code, path in islice(product((1, 0, -1), paths), count):
        target = scratch / f"{len(made)}.png"
        target.write_bytes(cv2.imencode(".png", cv2.flip(decode(path), code))[1].tobytes())
        made.append(target)
    return made


def compare(model: Model, reference: Reference, images: Sequence[Path]) -> Parity:
    """Compare a loaded bundle with the unpatched model on image files.

    Raises:
        InputError: fewer than 32 images, or a size that the model itself refuses.
    """
    if len(images) < MIN_IMAGES:
        raise InputError(
            f"{len(images)} images to verify on, mirrored ones included, at least {MIN_IMAGES} are needed; bring more with DATA="
        )
    parity = Parity()
    compared = Model(model.manifest, Compared(model.session, reference, parity))
    try:
        first = _compare_images(compared, reference, images)
        if _dynamic_size(model):
            _compare_other_sizes(compared, first)
    except _Stop as stop:
        parity.faults.append(str(stop))
        return parity
    if parity.preprocess_identical < len(images):
        parity.faults.append(
            f"{len(images) - parity.preprocess_identical} images are prepared otherwise than by the test pipeline"
        )
    if _dynamic_size(model) and len(parity.sizes) < MIN_SIZES:
        parity.faults.append(
            f"compared at {len(parity.sizes)} sizes, at least {MIN_SIZES} are needed for a dynamic graph"
        )
    return parity


def _compare_images(compared: Model, reference: Reference, images: Sequence[Path]) -> list[NDArray[np.float32]]:
    """Every image from file to prediction; returns what went through the graph of the first ones."""
    assert isinstance(compared.session, Compared)
    parity, fixed = compared.session.parity, _fixed_batch(compared)
    first: list[NDArray[np.float32]] = []
    for chunk in _chunks(images, (fixed,) if fixed else (7, 1, 4, 8)):
        prepared = [compared.preprocess(path) for path in chunk]
        results = compared.predict(prepared, batch_size=fixed or len(prepared))
        for ours, result, (theirs, sample) in zip(prepared, results, reference.samples(chunk), strict=True):
            parity.preprocess_identical += np.array_equal(ours.array, theirs.numpy())
            parity.predictions.add(*reference.task.agreement(result, sample))
        if not first:
            first = [compared.inputs(each)[0] for each in prepared]
        parity.images += len(chunk)
        say(f"  {parity.images}/{len(images)} images")
    return first


def _compare_other_sizes(compared: Model, arrays: list[NDArray[np.float32]]) -> None:
    """Run images at sizes that the test pipeline does not give, in a batch."""
    divisor = max(_divisor(step) for step in compared.manifest.preprocess)
    for height, width in _other_sizes(*arrays[0].shape[1:]):
        size = (max(1, width // divisor) * divisor, max(1, height // divisor) * divisor)
        batch = [cv2.resize(image.transpose(1, 2, 0), size).transpose(2, 0, 1).astype(np.float32) for image in arrays]
        compared.session.run(compared.feeds(batch[: _fixed_batch(compared)]))


def _divisor(step: Step) -> int:
    """What sizes that a step pads to can be divided by: models that have images padded take no others."""
    if not isinstance(step, Pad):
        return 1
    # A fixed size is a multiple of the model's largest stride, 32 at the most.
    return step.divisor or (math.gcd(step.width, step.height, 32) if step.width and step.height else 32)


def _other_sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Larger and not square, smaller and odd, much larger."""
    return [(height + 32, width), (height * 3 // 4 | 1, width - 5), (height, width * 3 // 2 | 1)]


def _chunks(images: Sequence[Path], lengths: Sequence[int]) -> Iterator[Sequence[Path]]:
    """Cut into batches of uneven length."""
    start = turn = 0
    while start < len(images):
        length = lengths[turn % len(lengths)]
        yield images[start : start + length]
        start, turn = start + length, turn + 1


def _fixed_batch(model: Model) -> int | None:
    size = model.session.inputs[0].shape[0]
    return size if isinstance(size, int) else None


def _dynamic_size(model: Model) -> bool:
    return any(isinstance(axis, str) for axis in model.session.inputs[0].shape[2:])
