"""Rewrites are exact at every size, and one that did not run is noticed."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from mmcv.cnn.bricks.conv2d_adaptive_padding import Conv2dAdaptivePadding
from mmdeploy.core import RewriterContext
from mmengine.config import Config
from torch import nn

from deploy import compat, rewrites
from train.errors import VerificationError

DEPLOY = Config(
    dict(
        onnx_config=dict(type="onnx"),
        backend_config=dict(type="onnxruntime"),
        codebase_config=dict(type="mmpretrain", task="Classification"),
    )
)


@pytest.fixture(scope="module", autouse=True)
def _prepared() -> None:
    compat.apply()


def export(model: nn.Module, path: Path, *, patched: bool) -> onnxruntime.InferenceSession:
    """Trace a model at 17×23 with dynamic sizes, with our rewrites or without."""
    modules = rewrites.register()
    x = torch.zeros(1, 3, 17, 23)
    needed = rewrites.needed(modules, lambda: model(x))
    rewrites.reset()
    settings = dict(
        input_names=["x"],
        output_names=["y"],
        opset_version=17,
        dynamic_axes={"x": {2: "height", 3: "width"}, "y": {2: "h", 3: "w"}},
    )
    with compat.torchscript_exporter(), torch.no_grad():
        if patched:
            with RewriterContext(DEPLOY, backend="onnxruntime", opset=17):
                torch.onnx.export(model, (x,), str(path), **settings)
            rewrites.assert_ran(modules, needed)
        else:
            torch.onnx.export(model, (x,), str(path), **settings)
    assert {node.domain for node in onnx.load(path).graph.node} == {""}
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def worst(model: nn.Module, session: onnxruntime.InferenceSession) -> float:
    """The largest difference over many sizes; infinite where shapes differ."""
    errors = []
    for height, width in ((17, 23), (16, 16), (31, 8), (5, 40), (7, 7), (64, 33)):
        x = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(height))
        with torch.no_grad():
            wanted = model(x).numpy()
        found = session.run(None, {"x": x.numpy()})[0]
        errors.append(np.abs(found - wanted).max() if found.shape == wanted.shape else np.inf)
    return float(max(errors))


@pytest.mark.parametrize(
    "arguments",
    [
        dict(kernel_size=3, stride=2),
        dict(kernel_size=5, stride=3),
        dict(kernel_size=3, stride=2, dilation=2),
        dict(kernel_size=(1, 4)),
    ],
    ids=str,
)
def test_adaptive_padding_is_exact_at_every_size(tmp_path: Path, arguments: dict[str, object]) -> None:
    torch.manual_seed(0)
    model = Conv2dAdaptivePadding(3, 4, **arguments).eval()
    assert worst(model, export(model, tmp_path / "ours.onnx", patched=True)) < 1e-5


def test_control_without_the_rewrite_the_padding_is_frozen(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Conv2dAdaptivePadding(3, 4, kernel_size=3, stride=2).eval()
    assert worst(model, export(model, tmp_path / "plain.onnx", patched=False)) > 1e-2


class Heads(nn.Module):
    """Pools by function and by module; an auxiliary head pools too, and does not run."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = Conv2dAdaptivePadding(3, 4, 3)
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.auxiliary = nn.Sequential(Conv2dAdaptivePadding(3, 4, 3), nn.AdaptiveMaxPool2d(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.convolution(x)
        pooled = self.pool(x) + nn.functional.adaptive_avg_pool2d(x, 2) + nn.functional.adaptive_max_pool2d(x, 2)
        return pooled + nn.functional.adaptive_avg_pool1d(x.flatten(2), 4).unflatten(2, (2, 2))


def test_calls_are_counted_where_they_run() -> None:
    modules = rewrites.register()
    found = rewrites.needed(modules, lambda: Heads()(torch.zeros(1, 3, 8, 8)))
    assert {name: count for name, count in found.items() if count} == {"adaptive_padding": 1, "adaptive_pool": 4}


def test_an_export_makes_the_calls_that_were_counted(tmp_path: Path) -> None:
    export(Heads().eval(), tmp_path / "heads.onnx", patched=True)
    modules = [module for module in rewrites.register() if module.__name__.endswith("adaptive_pool")]
    with pytest.raises(VerificationError, match="'adaptive_pool' ran 4 times, the model needs 5"):
        rewrites.assert_ran(modules, {"adaptive_pool": 5})


@pytest.mark.parametrize("times", [0, 2])
def test_control_a_rewrite_that_ran_another_number_of_times_is_an_error(times: int) -> None:
    modules = rewrites.register()
    model = Conv2dAdaptivePadding(3, 4, 3)
    needed = rewrites.needed(modules, lambda: model(torch.zeros(1, 3, 8, 8)))
    rewrites.reset()
    for _ in range(times):
        rewrites.ran("deploy.rewrites.adaptive_padding")
    with pytest.raises(VerificationError, match=f"'adaptive_padding' ran {times} times, the model needs 1"):
        rewrites.assert_ran(modules, needed)


def test_every_file_here_is_found() -> None:
    folder = Path(rewrites.__file__).parent
    names = {path.stem for path in folder.glob("*.py")} - {"__init__"}
    assert {module.__name__.rsplit(".", 1)[-1] for module in rewrites.register()} == names
    assert names
