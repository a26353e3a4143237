"""Training detectors: what is bound, what is learned, what is kept."""

import json
import math
from pathlib import Path

import pytest
from mmengine.config import Config

from train import checkpoint, runner
from train import config as configs
from train.errors import InputError

TINY = Path(__file__).parents[1] / "configs" / "det" / "tiny_scenes.py"


def test_a_detector_trains_to_a_whole_record(trained_detector) -> None:
    record = trained_detector.read()
    assert record.data["task"] == "detection"
    assert record.data["classes"] == [str(digit) for digit in range(10)]
    assert 0 <= record.metrics["coco/bbox_mAP"] <= 100
    config = Config.fromfile(str(trained_detector.config))
    assert config.model.bbox_head.num_classes == 10
    assert "model_of" not in config
    for _, dataset in configs.datasets(config):
        assert dataset.data_root == ""
    assert config.val_evaluator.ann_file == "annotations/instances_val.json", "no path of this machine travels"


def test_masks_train_too(trained_masks) -> None:
    record = trained_masks.read()
    assert 0 <= record.metrics["coco/bbox_mAP"] <= 100
    logs = [json.loads(line) for path in trained_masks.train.glob("*/vis_data/scalars.json") for line in path.open()]
    losses = [line["loss_mask"] for line in logs if "loss_mask" in line]
    assert losses
    assert all(map(math.isfinite, losses))
    assert any("coco/segm_mAP" in line for line in logs)
    best = max((line for line in logs if "coco/bbox_mAP" in line), key=lambda line: line["coco/bbox_mAP"])
    for key, value in record.metrics.items():
        assert value == pytest.approx(100 * best[key])
    assert set(record.metrics) == {"coco/bbox_mAP", "coco/bbox_mAP_50", "coco/segm_mAP", "coco/segm_mAP_50"}


def test_a_detector_that_finds_nothing_is_told_and_kept(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("model.test_cfg.score_thr=2", "train_cfg.max_epochs=1", "param_scheduler.total_steps=1")
    request = runner.Request(str(TINY), work=work / "nothing", device="cpu", options=options)
    experiment, record, _ = runner.train(request)
    assert record.metrics == {"coco/bbox_mAP": 0.0}
    assert experiment.checkpoint.is_file()
    told = capsys.readouterr()
    assert "validation found nothing" in told.err
    assert "Average Precision" not in told.out + told.err


def test_published_weights_fit_unchanged(real_data: Path) -> None:
    weights = real_data / "weights" / "yolox_nano_coco_mmdet.pth"
    path = configs.CONFIGS / "det" / "yolox-nano_coco.py"
    for classes, fits in ((80, True), (79, False)):
        config = configs.read(path)
        configs.activate(config, path)
        configs.bind(config, Path("root"), [str(number) for number in range(classes)])
        model = runner.build_model(config)
        if fits:
            checkpoint.load_into(model, weights)
        else:
            with pytest.raises(InputError, match="of another shape"):
                checkpoint.load_into(model, weights)
