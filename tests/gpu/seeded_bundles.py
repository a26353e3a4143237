"""Bundles of real networks with seeded random weights, exported on the spot from the embedded digits and scenes."""

from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config

from deploy import export, pipeline
from deploy.zoo.seeding import seeded
from slipway_runtime import preprocess
from train import config as configs
from train import plan, runner
from train.experiment import Experiment


@dataclass(frozen=True)
class Case:
    """A network to build an engine of.

    Attributes:
        experiment: whose network.
        edge: width and height that images are resized to; None: as the experiment says.
        shape: of the export.
        sizes: of the engine's profile, for graphs of any size.
    """

    experiment: str
    edge: tuple[int, int] | None = None
    shape: str = "dynamic"
    sizes: str | None = None

    def __str__(self) -> str:
        return f"{self.experiment.split('/')[1]}-{self.shape}"


ANY = "32x32:128x128:512x512"
WIDE = (1024, 512)
#: The networks that engines are promised for.
CASES = (
    Case("cls/resnet18_digits", sizes=ANY),
    Case("cls/resnet50_flowers", shape="batch"),
    Case("seg/pspnet-r18_digits", WIDE, "static"),
    Case("seg/pspnet-r18_digits", sizes=ANY),
    Case("seg/pspnet-r50-512x1024_digits", shape="static"),
    Case("seg/pspnet-r50_digits", sizes=ANY),
    Case("seg/deeplabv3plus-r50_digits", sizes=ANY),
    Case("det/rtmdet-tiny_coco", (320, 320), sizes=ANY),
    Case("det/yolox-nano_coco", (320, 320), sizes=ANY),
    Case("det/faster-rcnn-r50_coco", (256, 192), sizes=ANY),
    Case("det/mask-rcnn-r18_digits", sizes=ANY),
)
SOURCES = {"cls": "digits", "seg": "digits_scenes", "det": "digits_scenes"}


def make(case: Case, folder: Path) -> Experiment:
    """Export a case's network; its bundle is verified against the unpatched model as every export is."""
    request = _request(case, folder)
    planned = runner.plan(request)
    configs.activate(planned.config, planned.file)
    weights = folder / "weights.pth"
    _write_weights(case, planned, weights)
    experiment, _ = runner.adopt(request, weights)
    export.export(experiment, shape=case.shape)
    return experiment


def _request(case: Case, folder: Path) -> plan.Request:
    """The experiment on embedded data, whatever its own data are."""
    kind = case.experiment.split("/")[0]
    file = configs.locate(case.experiment)[1]
    changed = folder / kind / file.name
    changed.parent.mkdir(parents=True)
    changed.write_text(f"_base_ = [{str(file)!r}]\nsource = {SOURCES[kind]!r}\n")
    return plan.Request(
        str(changed), work=folder / "work", options=_resized(configs.read(changed), case.edge), device="cpu"
    )


def _resized(config: Config, edge: tuple[int, int] | None) -> tuple[str, ...]:
    """Options that let the test pipeline resize to one width and height."""
    if edge is None:
        return ()
    options = []
    for loader in ("val_dataloader", "test_dataloader"):
        for place, step in enumerate(config[loader].dataset.pipeline):
            name = f"{loader}.dataset.pipeline.{place}"
            options += [f"{name}.{key}=({edge[0]},{edge[1]})" for key in ("scale", "size") if key in step]
            options += [f"{name}.keep_ratio=False"] if edge == WIDE and "keep_ratio" in step else []
    return tuple(options)


def _write_weights(case: Case, planned: plan.Plan, weights: Path) -> None:
    """Weights that are random and seeded, batch norms with the statistics of images."""
    config = planned.config
    images = _images(planned)
    # Few images' statistics make some detectors chaotic: every score is 1, or none.
    plain = case.experiment.startswith("det/") and any(name in case.experiment for name in ("rcnn", "yolox", "rtmdet"))
    seeded(config, weights, planned.data["classes"], images, statistics=not plain)


def _images(planned: plan.Plan) -> torch.Tensor:
    """Four validation images as the model gets them, cut to the smallest of them."""
    from train import tasks as data_tasks

    samples = data_tasks.named(planned.data["task"]).samples(Path(planned.data["root"]), "val")
    steps = pipeline.steps(planned.config)
    arrays = [torch.from_numpy(preprocess.preprocess(path, steps).array) for path, _ in samples[:4]]
    height, width = (min(array.shape[axis] for array in arrays) // 32 * 32 for axis in (1, 2))
    return torch.stack([array[:, :height, :width] for array in arrays])
