"""COCO instances as they are written and read back."""

from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from train.data import instances, prepare
from train.data.instances import Instance, Labelled, encode, instance, run_lengths, write_instances
from train.errors import InputError

POLYGON = [4.0, 4.0, 12.0, 4.0, 4.0, 12.0]


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """Two images of 20×24, the second without objects."""
    mask = np.zeros((20, 24), bool)
    mask[3:7, 5:15] = True
    drawn = coco_mask.frPyObjects([POLYGON], 20, 24)[0]
    found = [instance(encode(mask), 1, 2), instance(drawn, 1, 1, [POLYGON])]
    images = [{"id": i, "file_name": f"{i}.png", "height": 20, "width": 24} for i in (1, 2)]
    for split in ("train", "val"):
        write_instances(tmp_path, split, "test", ("cat", "dog"), images, found)
    return tmp_path


def test_what_is_written_is_read(written: Path) -> None:
    (first, objects), (_, empty) = instances.read_split(written, "val")
    assert first == written / "val" / "1.png"
    assert empty == Labelled(20, 24, ())
    assert objects.instances[0].bbox == (5, 3, 10, 4)
    assert [(each.label, each.area) for each in objects.instances] == [(1, 40), (0, COCO_AREA)]
    assert objects.instances[1].segmentation == [POLYGON]
    reference = COCO(written / "annotations" / "instances_val.json")
    for each, annotation in zip(objects.instances, reference.anns.values(), strict=True):
        mask = coco_mask.decode(run_lengths(each.segmentation, 20, 24))
        assert np.array_equal(mask, reference.annToMask(annotation))
        assert mask.sum() == each.area


COCO_AREA = int(coco_mask.area(coco_mask.frPyObjects([POLYGON], 20, 24))[0])


def test_labels_follow_the_files_order_as_mmdet_counts(written: Path) -> None:
    path = written / "annotations" / "instances_val.json"
    content = path.read_text()
    path.write_text(content.replace('"categories": [', '"categories": [{"id": 9, "name": "ant"},'))
    assert {each.label for each in instances.read_split(written, "val")[0][1].instances} == {1, 2}
    assert path.read_text() != content


def test_no_class_is_black(written: Path) -> None:
    found = instances.read_classes(written)
    assert [each.name for each in found] == ["cat", "dog"]
    assert (0, 0, 0) not in {each.color for each in found}
    assert len({each.color for each in found}) == 2


def test_crowds_and_boxes_alone(written: Path) -> None:
    path = written / "annotations" / "instances_val.json"
    path.write_text(path.read_text().replace('"iscrowd": 0', '"iscrowd": 1').replace('"segmentation"', '"was"'))
    for each in instances.read_split(written, "val")[0][1].instances:
        assert isinstance(each, Instance)
        assert each.iscrowd
        assert each.segmentation is None


def test_what_is_missing_or_damaged_is_told(written: Path, class_folders: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found splits: train, val"):
        instances.read_split(written, "test")
    path = written / "annotations" / "instances_val.json"
    for text in ("{", '{"images": []}', '{"images": [], "annotations": [{}], "categories": []}'):
        path.write_text(text)
        with pytest.raises(InputError, match="no COCO instances"):
            instances.read_split(written, "val")
    made = prepare("imagefolder", tmp_path / "set", origin=class_folders)
    with pytest.raises(InputError, match="expected a set with instances"):
        instances.read_classes(made.root)
