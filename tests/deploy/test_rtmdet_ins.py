"""RTMDet-Ins: each detection's own small network draws its mask in the graph as mmdet does, at every size."""

from pathlib import Path

import onnx
import onnxruntime

from deploy import export, graph, trace
from deploy.matching import Matched
from deploy.zoo.seeding import images, seeded
from train import config as configs

SIZES = ((96, 96), (64, 128), (128, 96))


def test_masks_are_mmdets_at_every_size(tmp_path: Path) -> None:
    path = configs.locate("det/rtmdet-ins-tiny_digits")[1]
    config = configs.read(path)
    configs.activate(config, path)
    configs.bind(config, tmp_path, tuple("0123456789"))
    reference = seeded(config, tmp_path / "weights.pth", tuple("0123456789"), images((8, 3, 96, 96)), statistics=False)
    traced = trace.trace(export.read_deploy_config("dynamic"), reference, images((1, 3, 96, 96))[0])
    graph.check(traced)
    onnx.save(traced, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    matched, control = Matched(), Matched()
    for size in SIZES:
        batch = images((2, 3, *size))
        wanted = {name: value.numpy() for name, value in reference.predict(batch).items()}
        exact = {name: value.numpy() for name, value in reference.exact(batch).items()}
        found = dict(zip(wanted, session.run(list(wanted), {"input": batch.numpy()}), strict=True))
        assert found["masks"].shape == wanted["masks"].shape == (2, 100, size[0] // 8, size[1] // 8)
        differ = Matched.distance(wanted, exact)
        matched.update(found, wanted, lambda _, differ=differ: differ)  # type: ignore[misc]
        control.update({**found, "masks": found["masks"][:, :, ::-1]}, wanted)
    assert matched.passed, matched
    assert matched.matched > 50
    assert not control.passed, "control: masks upside down"
