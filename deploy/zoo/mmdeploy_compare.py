"""What MMDeploy's graphs gave against what the unpatched model gives: see `deploy.zoo.mmdeploy`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from deploy import matching
from deploy.matching import Detections, Matched
from deploy.outputs import Agreement, Output


class Compared(NamedTuple):
    """How far the two are apart.

    Attributes:
        why: the first batch that does not agree, and why; empty where all do.
        max_error: largest |ONNX − PyTorch| of logits and scores; of detections, the largest |Δscore| of a pair.
        detections: of both sides, where the model detects.
    """

    why: str
    max_error: float
    detections: int | None


def compare(folder: Path, reference: Any, runs: Mapping[str, str], batches: Sequence[Tensor], offset: int) -> Compared:
    """Compare batches until one does not agree.

    Args:
        folder: where the outputs lie, `outputs-K.npz`.
        reference: the model.
        runs: K → why there is no output; empty where there is.
        batches: of images.
        offset: K of the first.
    """
    detects = "Detection" in reference.task.CODEBASE["task"]
    compared: Output | Matched = Matched() if detects else Output()
    masks = Agreement()
    why = ""
    for number, batch in enumerate(batches, offset):
        if error := runs.get(str(number), "no result"):
            why = error
        else:
            with np.load(folder / f"outputs-{number}.npz") as found:
                if isinstance(compared, Matched):
                    _hold_detections(compared, masks, dict(found), batch, reference)
                else:
                    _hold_arrays(compared, dict(found), batch, reference)
            why = _difference(compared, masks)
        if why:
            count, _, height, width = batch.shape
            why = f"{count}×{height}×{width}: {why}"
            break
    return Compared(why, compared.max_abs, getattr(compared, "detections", None))


def _difference(compared: Output | Matched, masks: Agreement) -> str:
    if compared.fault or not compared.passed:
        return compared.fault or compared.reason()
    return f"masks of IoU ≥ {matching.MASK_IOU} are {masks.equal} of {masks.of}" if masks.equal < masks.of else ""


def _hold_arrays(compared: Any, found: dict[str, NDArray], batch: Tensor, reference: Any) -> None:
    wanted = reference.predict(batch)["output"].numpy()

    def rounding(image: int) -> float:
        exact = reference.exact(batch[image : image + 1])["output"].numpy()
        return Output.distance(wanted[image : image + 1], exact)

    compared.update(found["output"], wanted, rounding)


def _hold_detections(
    compared: Matched, masks: Agreement, found: dict[str, NDArray], batch: Tensor, reference: Any
) -> None:
    ours = predictions(reference.model, batch)
    own = [
        _detections({name: found.get(f"{name}-{image}") for name in ("bboxes", "scores", "labels", "masks")})
        for image in range(len(batch))
    ]
    rows = max(map(len, (*own, *ours)))

    def rounding(image: int) -> float:
        task, one = reference.task, batch[image : image + 1]
        both = [
            next(iter(task.compared({name: value.numpy() for name, value in outputs.items()}).values()))
            for outputs in (reference(one), reference.exact(one))
        ]
        return float(task.COMPARISON.distance(*both))

    compared.update(_packed(own, rows), _packed(ours, rows), rounding)
    for theirs, wanted in zip(own, ours, strict=True):
        if wanted.masks is None:
            continue
        pairs = matching.pair(theirs, wanted)
        if theirs.masks is None or theirs.masks.shape[1:] != wanted.masks.shape[1:]:
            masks.add(0, len(pairs.found))
            continue
        ious = matching.mask_ious(theirs.masks[pairs.found], wanted.masks[pairs.wanted])
        masks.add(int((ious >= matching.MASK_IOU).sum()), len(ious))


def predictions(model: Any, batch: Tensor) -> list[Detections]:
    """What the model itself predicts of images, N×3×H×W."""
    import torch

    from deploy.tasks import detection

    with torch.inference_mode():
        samples = model.predict(batch, detection._samples(batch), rescale=False)
    return [_detections(sample.pred_instances.numpy()) for sample in samples]


def _detections(found: Any) -> Detections:
    masks = found.get("masks")
    return Detections(
        np.asarray(found["bboxes"], np.float32).reshape(-1, 4),
        np.asarray(found["scores"], np.float32),
        np.asarray(found["labels"], np.int64),
        None if masks is None else np.asarray(masks, bool),
    )


def _packed(images: Sequence[Detections], rows: int) -> dict[str, NDArray]:
    """`dets` and `labels` as `deploy.matching` takes them."""
    dets = np.zeros((len(images), rows, 5), np.float32)
    labels = np.full((len(images), rows), -1, np.int64)
    for image, each in enumerate(images):
        count = len(each)
        dets[image, :count, :4], dets[image, :count, 4] = each.boxes, each.scores
        labels[image, :count] = each.labels
    return {"dets": dets, "labels": labels}
