"""Configs: every one shipped is built, and what nobody reads is refused."""

from pathlib import Path
from typing import Any

import pytest

from train import config as configs
from train.data.instances import write_instances
from train.errors import InputError, UsageError
from train.runner import build_model

DIGITS = configs.CONFIGS / "cls" / "resnet18_digits.py"


def _heads(model: Any) -> list[Any]:
    """The parts of a model that count classes."""
    if hasattr(model, "roi_head"):
        return [head for name in ("bbox_head", "mask_head") if (head := getattr(model.roi_head, name, None))]
    return [next(head for name in ("decode_head", "bbox_head", "head") if (head := getattr(model, name, None)))]


@pytest.mark.parametrize("name", configs.names())
def test_every_experiment_reads_checks_and_builds(name: str) -> None:
    found, path = configs.locate(name)
    assert found == name
    config = configs.read(path)
    configs.activate(config, path)
    assert config.source
    configs.bind(config, Path("root"), [f"class {index}" for index in range(7)])
    model = build_model(config)
    for head in _heads(model):
        assert head.num_classes == 7, type(head).__name__
    if "mean" in config.model.data_preprocessor:  # YOLOX takes bytes as they are
        assert model.data_preprocessor.mean is not None
    for split, dataset in configs.datasets(config):
        assert dataset.data_root == "root", split
        assert dataset.max_refetch == 0, "MMEngine would replace a bad sample in silence"


def test_an_unknown_experiment_gets_the_nearest_name() -> None:
    with pytest.raises(UsageError, match="did you mean 'cls/resnet18_digits'"):
        configs.locate("cls/resnet18_digit")
    with pytest.raises(UsageError, match="no such config"):
        configs.locate("nowhere.py")


def test_a_config_of_ones_own_is_named_after_its_file(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("")
    assert configs.locate(str(mine)) == ("mine", mine)
    assert configs.locate(str(DIGITS))[0] == "cls/resnet18_digits"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("train_cfg.max_epoch=1", "did you mean 'max_epochs'"),
        ("optim_wraper.type=x", "did you mean 'optim_wrapper'"),
        ("max_epochs.deeper=1", "is 6, not a dict"),
        ("no-equals-sign", "expected KEY=VALUE"),
        ("test_pipeline.9.scale=1", "is a list of 3"),
    ],
)
def test_an_override_of_nothing_is_refused(option: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        configs.read(DIGITS, [option])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("model.backbone.dept=34", "ResNet takes no 'dept' .did you mean 'depth'"),
        ("val_dataloader.dataset.pipeline.1.scal=3", "Resize takes no 'scal' .did you mean 'scale'"),
        ("train_dataloader.dataset.an_file=x", "CustomDataset takes no 'an_file' .did you mean 'ann_file'"),
    ],
)
def test_a_key_that_its_class_does_not_take_is_refused(option: str, message: str) -> None:
    config = configs.read(DIGITS, [option])
    with pytest.raises(UsageError, match=message):
        configs.activate(config, DIGITS)


def test_a_misspelt_key_in_a_file_is_refused(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(f"_base_ = [{str(DIGITS)!r}]\nparam_schedulers = dict(type='ConstantLR')\n")
    control = configs.read(DIGITS)
    configs.activate(control, DIGITS)
    with pytest.raises(UsageError, match=r"'param_schedulers' .did you mean 'param_scheduler'"):
        configs.activate(configs.read(mine), mine)


@pytest.mark.parametrize("text", ["a = (", "_base_ = ['nowhere.py']", "x = 1", "raise ValueError"])
def test_a_broken_config_is_one_line(tmp_path: Path, text: str) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(text)
    with pytest.raises(UsageError) as caught:
        configs.read(mine)
    assert str(mine) in str(caught.value)


def test_a_scope_we_do_not_train_is_refused(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(f"_base_ = [{str(DIGITS)!r}]\ndefault_scope = 'mmpose'\n")
    with pytest.raises(UsageError, match="mmpretrain, mmdet, mmseg"):
        configs.activate(configs.read(mine), mine)


def test_three_classes_have_no_top_five() -> None:
    config = configs.read(DIGITS)
    configs.bind(config, Path("root"), ["a", "b", "c"])
    assert config.val_evaluator.topk == config.test_evaluator.topk == config.model.head.topk == (1,)
    configs.bind(control := configs.read(DIGITS), Path("root"), list("abcde"))
    assert tuple(control.val_evaluator.topk) == (1, 5)


def test_one_class_is_no_classification() -> None:
    with pytest.raises(InputError, match="at least two"):
        configs.bind(configs.read(DIGITS), Path("root"), ["only"])


def test_what_is_overridden_for_validation_counts_for_the_test_loader() -> None:
    config = configs.read(DIGITS, ["val_dataloader.batch_size=3"])
    assert config.test_dataloader.batch_size == 3


def test_imagenet_keeps_its_thousand_names() -> None:
    config = configs.read(configs.CONFIGS / "cls" / "shufflenet-v2_imagenet.py")
    names = configs.class_names(config, ["0", "1"])
    assert len(names) == 1000
    assert names[0].startswith("tench")
    with pytest.raises(UsageError, match="1001 classes"):
        configs.class_names(config, ["x"] * 1001)


def test_the_model_of_another_config_is_taken_alone(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    folder = configs.CONFIGS / "det" / "_base_" / "folder.py"
    text = f"_base_ = [{str(folder)!r}]\nmodel_of = 'mmdet::yolox/yolox_%s_8xb8-300e_coco.py'\nmodel = dict(test_cfg=dict(score_thr=0.2))"
    mine.write_text(text % "nano")
    config = configs.read(mine, ["model.bbox_head.num_classes=3"])
    assert config.model.backbone.widen_factor == 0.25
    assert config.model.test_cfg.score_thr == 0.2
    assert config.model.bbox_head.num_classes == 3
    assert "model_of" not in config
    assert "img_scale" not in config, "the other config's pipelines stay where they are"
    mine.write_text(text % "nowhere")
    with pytest.raises(UsageError, match="model_of = 'mmdet::yolox/yolox_nowhere"):
        configs.read(mine)


def test_a_detector_may_have_one_class_but_not_none() -> None:
    path = configs.CONFIGS / "det" / "mask-rcnn-r50_balloon.py"
    config = configs.read(path)
    configs.bind(config, Path("root"), ["balloon"])
    assert config.model.roi_head.bbox_head.num_classes == config.model.roi_head.mask_head.num_classes == 1
    assert config.val_evaluator.ann_file == config.test_evaluator.ann_file == "root/annotations/instances_val.json"
    assert config.train_dataloader.dataset.ann_file == "annotations/instances_train.json"
    assert config.test_dataloader.dataset.test_mode, "images without objects count"
    with pytest.raises(InputError, match="no class in the data"):
        configs.bind(configs.read(path), Path("root"), [])


def test_boxes_alone_train_no_masks(tmp_path: Path) -> None:
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4], "area": 16, "iscrowd": 0}
    images = [{"id": 1, "file_name": "1.png", "height": 9, "width": 9}]
    masks, boxes = (configs.CONFIGS / "det" / f"{name}.py" for name in ("mask-rcnn-r50_balloon", "yolox-nano_coco"))
    write_instances(tmp_path, "train", "test", ["cat"], images, [{**box, "segmentation": [[0, 0, 4, 0, 4, 4]]}])
    configs.bind(configs.read(masks), tmp_path, ["cat"])
    write_instances(tmp_path, "train", "test", ["cat"], images, [box])
    with pytest.raises(
        InputError, match=r"1 of 1 objects in annotations/instances_train\.json are boxes without a mask"
    ):
        configs.bind(configs.read(masks), tmp_path, ["cat"])
    configs.bind(configs.read(boxes), tmp_path, ["cat"])


def test_a_config_of_mmdets_own_reads_the_prepared_set(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("_base_ = ['mmdet::yolox/yolox_s_8xb8-300e_coco.py']\nsource = 'coco'\n")
    config = configs.read(mine)
    configs.bind(config, Path("root"), ["cat", "dog"])
    assert configs.class_names(config, ["cat", "dog"]) == ("cat", "dog"), "not COCO's eighty"
    inner = config.train_dataloader.dataset.dataset
    assert (inner.data_root, inner.ann_file, inner.data_prefix) == (
        "root",
        "annotations/instances_train.json",
        dict(img="train/"),
    )
    assert config.val_dataloader.dataset.data_prefix.img == "val/"
    assert config.val_evaluator.ann_file == "root/annotations/instances_val.json"
