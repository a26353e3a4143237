"""The embedded set: 1797 real handwritten digits, which scikit-learn brings along, so that everything runs offline.

E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998
(CC BY 4.0); the test part, as `sklearn.datasets.load_digits` returns it.
"""

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from train.data import SPLITS, Request, Source, Written
from train.data.image_files import stratified_split
from train.data.images import count_labels, write_lists

CLASSES = tuple("0123456789")
SIZE = 32  # pixels


def load_split(seed: int) -> tuple[NDArray[np.uint8], list[int], list[bool]]:
    """All digits (N×8×8, ink 0..16), their labels, and whether each belongs to val."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    digits = bunch.images.astype(np.uint8)
    labels = [int(label) for label in bunch.target]
    keys = [hashlib.sha256(digit.tobytes()).hexdigest() for digit in digits]
    return digits, labels, stratified_split(keys, labels, seed=seed)


def write(folder: Path, request: Request) -> Written:
    """Write each digit as a grey 32×32 PNG, white on black, named by its index in scikit-learn's array."""
    import cv2

    digits, labels, in_val = load_split(request.seed)
    splits = [SPLITS[val] for val in in_val]
    targets = [f"{split}/{label}/{i:04d}.png" for i, (split, label) in enumerate(zip(splits, labels, strict=True))]
    for digit, target in zip(digits, targets, strict=True):
        grey = np.round(digit * (255 / 16)).astype(np.uint8)
        path = folder / target
        path.parent.mkdir(parents=True, exist_ok=True)
        enlarged = cv2.resize(grey, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
        path.write_bytes(cv2.imencode(".png", enlarged)[1].tobytes())
    write_lists(folder, CLASSES, targets, labels)
    return Written(
        classes=CLASSES,
        images={split: splits.count(split) for split in SPLITS},
        labels=count_labels(CLASSES, list(zip(splits, labels, strict=True))),
    )


SOURCE = Source(
    summary="1797 real handwritten digits, 10 classes, 32×32; embedded, needs no network",
    version=1,
    write=write,
    next_command="make train-cls EXP=cls/resnet18_digits",
)
