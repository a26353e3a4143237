"""Published weights on real photos: `ort_infer` against `slipway_runtime`, as both are used."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Infer
from PIL import Image as Pil

import slipway_runtime

#: Experiment, its weights, its data, and photos to predict on.
MODELS = [
    ("cls/shufflenet-v2_imagenet", "shufflenet_v2_1x_in1k_deq_mmpretrain", "imagenet_sample", "imagenet_sample/images"),
    ("det/yolox-nano_coco", "yolox_nano_coco_mmdet", "coco_mini", "coco_mini/val2017"),
    ("seg/deeplabv3-mnv2_voc21", "deeplabv3_mnv2_voc21_mmseg", "coco_mini", "coco_mini/val2017"),
    ("seg/cgnet-slide_camvid", "cgnet_camvid11_mmseg", "camvid_mini", "camvid_mini/img_dir"),
]


def numbers(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a line by its path, in order."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from numbers(each, f"{path}.{key}")
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from numbers(each, f"{path}.{index}")
    else:
        yield path, value


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(("experiment", "weights", "data", "photos"), MODELS, ids=[model[0] for model in MODELS])
def test_predictions_are_equal(
    ort_infer: Infer,
    run_module: Any,
    real_data: Path,
    tmp_path: Path,
    experiment: str,
    weights: str,
    data: str,
    photos: str,
) -> None:
    made = run_module(
        "deploy", "export", experiment, "--work", tmp_path, "--checkpoint", real_data / "weights" / f"{weights}.pth",
        "--data", real_data / data,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    bundle = tmp_path / experiment / "bundle"
    done = ort_infer(bundle, real_data / photos, "--json", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) >= 50
    model = slipway_runtime.load(bundle)
    for line in lines:
        path = Path(line.pop("image"))
        (result,) = model(path)
        found, expected = dict(numbers(line)), dict(numbers(json.loads(json.dumps(result.to_dict()))))
        assert list(found) == list(expected)
        for key, value in expected.items():
            tolerance = 0.01 if ".box." in key else 1e-5 if key.endswith(".score") else 0
            same = found[key] == value or (tolerance and abs(found[key] - value) <= tolerance)
            assert same or model.manifest.task == "segmentation", (path, key, found[key], value)
        if model.manifest.task == "segmentation":
            written = (tmp_path / "out" / path.relative_to(real_data / photos)).with_suffix(".labels.png")
            assert (np.asarray(Pil.open(written)) == result.label_map).mean() >= 0.9999
