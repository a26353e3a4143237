"""Scenes of handwritten digits: detection, instance and semantic segmentation from the embedded digits.

Each scene shows 3 to 5 digits of random size, rotation and contrast on a dark textured canvas; later digits cover earlier
ones. Written:

    OUT/{train,val}/NAME.png                        the scenes, 144 to 208 pixels a side
    OUT/annotations/instances_{train,val}.json      COCO instances: visible box, area and compressed RLE mask
    OUT/labels/                                     label maps (see `label_maps`): 0 background, 1..10 digits, 255 ignore
    OUT/classes.txt                                 the digits, one a line

A mask is the digit's visible ink. A digit of val is never seen in train, however drawn: both come from the split of
`digits`. Two fields of an annotation are not COCO's: `source_index`, the digit it shows, and `visible`, the part of
its ink that no later digit covers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.data import Request, Source, Written, label_maps
from train.data.digits import CLASSES, load_split
from train.data.images import count_labels
from train.data.instances import encode, instance, write_instances
from train.data.label_maps import IGNORE
from train.data.progress import track

SCENES = {"train": 400, "val": 60}
SIDE = (144, 208)  # pixels of a scene, both ends included; height and width are drawn apart
DIGITS = (3, 5)  # in a scene
GLYPH = (52, 72)  # pixels that the 8 rows of a digit are enlarged to
ANGLE = 10.0  # degrees, either way
MIN_VISIBLE = 0.9  # of a digit's ink, once the later ones are drawn
TRIES = 20  # a digit; a scene that is full by then keeps fewer digits, but never less than two
#: The classes of the label maps.
PIXEL_CLASSES = label_maps.coloured(("background", *CLASSES))


@dataclass(frozen=True)
class Scene:
    """A drawn scene.

    Attributes:
        image: uint8 H×W×3, BGR.
        owner: int32 H×W, 0 = canvas, i + 1 = visible ink of `digits[i]`.
        digits: indices into the array of digits, in the order drawn.
        ink: pixels of each digit's ink, covered ones included.
    """

    image: NDArray[np.uint8]
    owner: NDArray[np.int32]
    digits: list[int]
    ink: list[int]


def draw_scene(digits: NDArray[np.uint8], pool: NDArray[np.int64], rng: np.random.Generator) -> Scene:
    """Draw a scene of digits (N×8×8, ink 0..16) whose indices are in `pool`."""
    height, width = (int(n) for n in rng.integers(SIDE[0], SIDE[1] + 1, size=2))
    image = _canvas(rng, height, width)
    owner = np.zeros((height, width), np.int32)
    ink: list[int] = []
    drawn: list[int] = []
    wanted = int(rng.integers(DIGITS[0], DIGITS[1] + 1))
    tries = wanted * TRIES
    while len(drawn) < wanted and (tries > 0 or len(drawn) < DIGITS[0]):
        tries -= 1
        index = int(rng.choice(pool))
        alpha, mask = _glyph(digits[index], rng)
        rows, columns = mask.shape
        top, left = int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1))
        place = np.s_[top : top + rows, left : left + columns]
        covered = owner.copy()
        covered[place][mask] = len(drawn) + 1
        visible = np.bincount(covered.ravel(), minlength=len(drawn) + 2)[1:-1]
        if index in drawn or (visible < MIN_VISIBLE * np.array(ink)).any():
            continue
        owner = covered
        ink.append(int(mask.sum()))
        drawn.append(index)
        _paint(image[place], alpha, rng)
    return Scene(image, owner, drawn, ink)


def label_map(owner: NDArray[np.int32], labels: list[int]) -> NDArray[np.uint8]:
    """The VOC label map of a scene: label + 1 on visible ink, 255 on the pixels that touch it, 0 elsewhere."""
    import cv2

    lookup = np.array([0, *(label + 1 for label in labels)], np.uint8)
    touching = cv2.dilate((owner > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return np.where(touching & (owner == 0), np.uint8(IGNORE), lookup[owner])


def write(folder: Path, request: Request) -> Written:
    """Write all scenes of both splits."""
    digits, labels, in_val = load_split(request.seed)
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in CLASSES), encoding="utf-8")
    shown: list[tuple[str, int]] = []
    names = {split: [f"{i:06d}.png" for i in range(1, scenes + 1)] for split, scenes in SCENES.items()}
    for number, (split, scenes) in enumerate(SCENES.items()):
        pool = np.flatnonzero(np.array(in_val) == (split == "val"))
        for kind in (folder, folder / "labels"):
            (kind / split).mkdir(parents=True)
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for i, name in enumerate(track(names[split], scenes, f"drawing {split} scenes"), start=1):
            scene = draw_scene(digits, pool, np.random.default_rng([request.seed, number, i]))
            _write_scene(folder, split, name, scene, [labels[d] for d in scene.digits])
            height, width = scene.owner.shape
            images.append({"id": i, "file_name": name, "width": width, "height": height})
            annotations += _annotations(scene, labels, image_id=i)
        write_instances(folder, split, f"Digit scenes of seed {request.seed}", CLASSES, images, annotations)
        shown += [(split, annotation["category_id"] - 1) for annotation in annotations]
    label_maps.write_lists(folder, PIXEL_CLASSES, names)
    return Written(classes=CLASSES, images=dict(SCENES), labels=count_labels(CLASSES, shown))


def _write_scene(folder: Path, split: str, name: str, scene: Scene, labels: list[int]) -> None:
    import cv2

    (folder / split / name).write_bytes(cv2.imencode(".png", scene.image)[1].tobytes())
    label_maps.save(folder / "labels" / split / name, label_map(scene.owner, labels), PIXEL_CLASSES)


def _annotations(scene: Scene, labels: list[int], *, image_id: int) -> list[dict[str, Any]]:
    found = []
    for i, index in enumerate(scene.digits):
        each = instance(encode(scene.owner == i + 1), image_id, labels[index] + 1)
        found.append({**each, "source_index": index, "visible": round(each["area"] / scene.ink[i], 4)})
    return found


def _canvas(rng: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    """A texture: noise of three scales and a grating, between two near colours. uint8 H×W×3."""
    import cv2

    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    angle, phase = rng.uniform(0, 2 * np.pi, size=2)
    wavelength = rng.uniform(6, 40)  # pixels
    grating = np.sin(2 * np.pi / wavelength * (columns * np.cos(angle) + rows * np.sin(angle)) + phase)
    pattern = rng.uniform(0, 0.5) * grating
    for cells, strength in ((3, 1.0), (9, 0.6), (36, 0.4)):
        noise = rng.uniform(-1, 1, size=(cells, cells)).astype(np.float32)
        pattern = pattern + strength * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    colour, spread = rng.uniform(30, 110, size=3), rng.uniform(-30, 30, size=3)
    return np.clip(colour + pattern[..., None] * spread, 0, 255).astype(np.uint8)


def _glyph(digit: NDArray[np.uint8], rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """A digit, enlarged, turned and cut out: opacity 0..1 and the ink's mask, H×W each."""
    import cv2

    size = rng.uniform(*GLYPH)
    side = int(np.ceil(size * 1.5))  # holds the digit at any angle
    turn = cv2.getRotationMatrix2D((3.5, 3.5), rng.uniform(-ANGLE, ANGLE), size / 8)
    matrix = turn + np.array([0, 0, side / 2 - 3.5])  # moves the digit's middle to the square's
    drawn = cv2.warpAffine(digit.astype(np.float32) / 16, matrix, (side, side), flags=cv2.INTER_CUBIC)
    # Enlarging leaves a wide grey rim, in which nobody could say where the ink ends: steepen it. Inside, the pen's
    # pressure stays: it tells an 8 whose loops are filled from a 1.
    edge = np.clip((drawn - 0.18) / 0.25, 0, 1)
    alpha = (edge * (0.4 + 0.6 * np.clip(drawn, 0, 1))).astype(np.float32)
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    mask = cv2.morphologyEx((edge >= 0.5).astype(np.uint8), cv2.MORPH_CLOSE, ellipse)
    left, top, width, height = cv2.boundingRect(mask)
    cut = np.s_[top : top + height, left : left + width]
    return alpha[cut], mask[cut].astype(bool)


def _paint(region: NDArray[np.uint8], alpha: NDArray[np.float32], rng: np.random.Generator) -> None:
    """Blend a digit into its region of the image, light on the dark canvas."""
    colour = rng.uniform(190, 255, size=3)
    opacity = alpha[..., None] * rng.uniform(0.85, 1.0)
    region[:] = np.round(region * (1 - opacity) + colour * opacity).astype(np.uint8)


SOURCE = Source(
    summary="460 scenes of those digits with boxes, masks (COCO) and label maps; needs no network",
    version=4,
    write=write,
    next_command="make train-seg EXP=seg/pspnet-r18_digits",
)
