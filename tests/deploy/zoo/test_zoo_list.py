"""configs/zoo.yaml: every model that is promised, by a config that its wheel ships."""

import importlib.util
from pathlib import Path

import pytest

from deploy import zoo
from train.errors import UsageError

PROMISED = {
    "mmpretrain": (
        "ResNet, ResNeXt, SE-ResNet, MobileNetV2, MobileNetV3, ShuffleNetV1, ShuffleNetV2, VGG, ViT, Swin, EfficientNet, "
        "ConvNeXt, MobileOne, RepVGG"
    ),
    "mmdet": (
        "RetinaNet, FCOS, ATSS, FSAF, FoveaBox, VFNet, GFL, PAA, SSD300, SSD512, YOLOv3, YOLOX, RTMDet, Faster R-CNN, "
        "Cascade R-CNN, RepPoints, DETR, Deformable DETR, Conditional DETR, DINO, CenterNet, Mask R-CNN, Cascade Mask R-CNN, "
        "RTMDet-Ins, SOLO, SOLOv2, YOLACT, QueryInst, Mask2Former, HTC"
    ),
    "mmseg": (
        "FCN, PSPNet, DeepLabV3, DeepLabV3+, Fast-SCNN, UNet, ANN, APCNet, BiSeNetV1, BiSeNetV2, CGNet, DMNet, DNLNet, "
        "EMANet, EncNet, ERFNet, GCNet, ICNet, ISANet, NonLocal, OCRNet, PointRend, SemanticFPN, STDC, UPerNet, DANet, "
        "SegFormer, SegNeXt, PIDNet, DDRNet, Segmenter, KNet, MaskFormer"
    ),
}


def test_every_promised_model_is_on_the_list() -> None:
    lines = zoo.read()
    for package, names in PROMISED.items():
        assert set(names.split(", ")) <= {line.model for line in lines if line.package == package}
    assert len(lines) >= 77


def test_wheels_ship_the_configs() -> None:
    origins = {package: str(importlib.util.find_spec(package).origin) for package in PROMISED}  # type: ignore[union-attr]
    for line in zoo.read():
        assert (Path(origins[line.package]).parent / ".mim" / "configs" / line.config).is_file(), line


def chosen(only: str | None) -> set[str]:
    return {line.model for line in zoo.select(zoo.read(), only)}


def test_models_are_chosen_by_package_name_or_glob() -> None:
    assert chosen(None) == chosen("*") == chosen("mmdet,mmseg,mmpretrain")
    assert chosen("mmpretrain") == set(PROMISED["mmpretrain"].split(", "))
    assert chosen("atss, mask r-cnn,deeplabv3+") == {"ATSS", "Mask R-CNN", "DeepLabV3+"}
    assert chosen("SSD*,DETR") == {"SSD300", "SSD512", "DETR"}


@pytest.mark.parametrize(("name", "near"), [("RetinNet", "RetinaNet"), ("mmsegg", "mmseg"), ("PSPnet50", "PSPNet")])
def test_the_nearest_model_is_suggested(name: str, near: str) -> None:
    with pytest.raises(UsageError, match=rf"unknown model '{name}': did you mean '{near}'\?"):
        zoo.select(zoo.read(), f"ATSS,{name}")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("static: exact", "static: perfect", "expected 'exact', 'batch: REASON' or 'refused: REASON'"),
        ("static: exact", "static: refused", "expected 'exact'"),
        ("size: [64, 64]", "size: [64, 1]", "greater than or equal to 16"),
        ("config: a.py", "kind: a.py", "config"),
        ("package: mmseg", "package: mmpose", "'mmpretrain', 'mmdet' or 'mmseg'"),
        ("Two+", "One", "twice: One"),
        ("models:", "model:", "expected 'models'"),
    ],
)
def test_a_list_that_is_none_is_refused(listed: Path, before: str, after: str, said: str) -> None:
    listed.write_text(listed.read_text().replace(before, after))
    with pytest.raises(UsageError) as refused:
        zoo.read(listed)
    assert said in str(refused.value)
    assert str(listed) in str(refused.value)
