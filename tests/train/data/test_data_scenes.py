"""Scenes of digits: boxes, masks and label maps agree, val's digits are never seen in train."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from train.data import digits_scenes, label_maps, load, prepare
from train.data.digits import load_split
from train.data.digits_scenes import label_map
from train.data.label_maps import palette


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare("digits_scenes", tmp_path_factory.mktemp("data") / "scenes").root


def read(scenes: Path, split: str) -> dict[str, Any]:
    return json.loads((scenes / "annotations" / f"instances_{split}.json").read_text())


def annotated(scenes: Path) -> Iterator[tuple[np.ndarray, list[tuple[dict[str, Any], np.ndarray]]]]:
    """Each scene's label map and its annotations with decoded masks."""
    for split in ("train", "val"):
        coco = COCO(scenes / "annotations" / f"instances_{split}.json")
        for image in coco.dataset["images"]:
            pairs = [(a, coco.annToMask(a).astype(bool)) for a in coco.imgToAnns[image["id"]]]
            yield np.asarray(Image.open(scenes / "labels" / split / image["file_name"])), pairs


def test_counts_and_sizes(scenes: Path) -> None:
    assert load(scenes).images == {"train": 400, "val": 60}
    for split, expected in (("train", 400), ("val", 60)):
        coco = read(scenes, split)
        assert len(coco["images"]) == expected
        assert [c["id"] for c in coco["categories"]] == list(range(1, 11))
        for image in coco["images"]:
            size = Image.open(scenes / split / image["file_name"]).size
            assert size == (image["width"], image["height"])
            assert size == Image.open(scenes / "labels" / split / image["file_name"]).size
            assert all(144 <= side <= 208 for side in size)
        assert len(list((scenes / split).iterdir())) == len(list((scenes / "labels" / split).iterdir())) == expected
        per_scene = Counter(a["image_id"] for a in coco["annotations"])
        assert len(per_scene) == expected
        assert set(per_scene.values()) <= {2, 3, 4, 5, 6}
        assert {a["category_id"] for a in coco["annotations"]} == set(range(1, 11))
        assert [a["id"] for a in coco["annotations"]] == list(range(1, len(coco["annotations"]) + 1))


def test_boxes_areas_and_masks_agree(scenes: Path) -> None:
    for _, pairs in annotated(scenes):
        for annotation, mask in pairs:
            assert isinstance(annotation["segmentation"]["counts"], str)
            assert annotation["area"] == mask.sum() > 0
            ys, xs = np.nonzero(mask)
            left, top, width, height = annotation["bbox"]
            assert (left, top) == (xs.min(), ys.min())
            assert (left + width - 1, top + height - 1) == (xs.max(), ys.max())
            assert annotation["iscrowd"] == 0


def test_label_maps_are_the_union_of_the_masks(scenes: Path) -> None:
    for labels, pairs in annotated(scenes):
        assert np.sum([mask for _, mask in pairs], axis=0).max() == 1, "visible masks overlap"
        expected = np.zeros_like(labels)
        for annotation, mask in pairs:
            expected[mask] = annotation["category_id"]
        ink = expected > 0
        assert np.array_equal(labels[ink], expected[ink])
        assert set(np.unique(labels[~ink])) == {0, 255}


def test_ignore_rings_every_digit_and_nothing_else(scenes: Path) -> None:
    kernel = np.ones((3, 3), np.uint8)
    for labels, _ in annotated(scenes):
        ink = ((labels > 0) & (labels < 255)).astype(np.uint8)
        assert np.array_equal(labels == 255, (cv2.dilate(ink, kernel) - ink) > 0)


def test_label_maps_are_indexed_with_the_voc_palette(scenes: Path) -> None:
    image = Image.open(scenes / "labels" / "train" / "000001.png")
    assert image.mode == "P"
    assert image.getpalette() == palette().ravel().tolist()
    # From the VOC development kit: background, aeroplane, bicycle, bird, void.
    assert palette()[[0, 1, 2, 3, 255]].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [224, 224, 192],
    ]


def test_label_maps_are_listed_with_their_classes(scenes: Path) -> None:
    classes = label_maps.read_classes(scenes)
    assert [each.name for each in classes] == ["background", *"0123456789"]
    assert [each.color for each in classes] == [tuple(colour) for colour in palette()[:11].tolist()]
    assert load(scenes).classes == tuple("0123456789")
    for split, expected in (("train", 400), ("val", 60)):
        pairs = label_maps.read_split(scenes, split)
        assert [image for image, _ in pairs] == sorted((scenes / split).iterdir())
        assert [path for _, path in pairs] == sorted((scenes / "labels" / split).iterdir())
        assert len(pairs) == expected


def test_no_digit_is_in_both_splits(scenes: Path) -> None:
    seen = {s: {a["source_index"] for a in read(scenes, s)["annotations"]} for s in ("train", "val")}
    assert seen["train"]
    assert seen["val"]
    assert not seen["train"] & seen["val"]
    _, labels, in_val = load_split(seed=0)
    assert all(in_val[index] for index in seen["val"])
    assert not any(in_val[index] for index in seen["train"])
    for split in seen:
        assert all(labels[a["source_index"]] + 1 == a["category_id"] for a in read(scenes, split)["annotations"])


def test_later_digits_cover_earlier_ones_but_leave_most_of_them(scenes: Path) -> None:
    visible = [a["visible"] for split in ("train", "val") for a in read(scenes, split)["annotations"]]
    assert digits_scenes.MIN_VISIBLE - 1e-4 <= min(visible) < 0.95
    assert max(visible) == 1
    last = {a["image_id"]: a["visible"] for a in read(scenes, "train")["annotations"]}
    assert set(last.values()) == {1}


def test_digits_stand_out_from_the_canvas(scenes: Path) -> None:
    coco = read(scenes, "val")
    for annotation in coco["annotations"]:
        name = f"{annotation['image_id']:06d}.png"
        grey = np.asarray(Image.open(scenes / "val" / name).convert("L"), float)
        mask = coco_mask.decode(annotation["segmentation"]).astype(bool)
        canvas = np.asarray(Image.open(scenes / "labels" / "val" / name)) == 0
        left, top, width, height = (int(v) for v in annotation["bbox"])
        near = np.s_[max(top - 8, 0) : top + height + 8, max(left - 8, 0) : left + width + 8]
        assert abs(grey[mask].mean() - grey[near][canvas[near]].mean()) > 10


def test_a_seed_gives_the_same_bytes_and_another_seed_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contents: Callable[[Path], dict[str, bytes]]
) -> None:
    monkeypatch.setattr(digits_scenes, "SCENES", {"train": 8, "val": 4})
    first, second, other = (prepare("digits_scenes", tmp_path / n, seed=s) for n, s in (("a", 0), ("b", 0), ("c", 1)))
    assert contents(first.root) == contents(second.root)
    assert other.fingerprint != first.fingerprint


def test_label_map_of_a_known_scene() -> None:
    owner = np.zeros((4, 6), np.int32)
    owner[1, 1], owner[1, 2] = 1, 2
    assert label_map(owner, [9, 0]).tolist() == [
        [255, 255, 255, 255, 0, 0],
        [255, 10, 1, 255, 0, 0],
        [255, 255, 255, 255, 0, 0],
        [0, 0, 0, 0, 0, 0],
    ]
