"""Adaptive pooling is exported exactly, at every size, in standard operators; MMDeploy's own rewrite is not."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from benchmarks.pooling import BINS, MMDEPLOY, OURS, Pyramid, export, graph_of, proof, rewriting
from deploy import graph
from train.errors import UsageError

SIZES = ((17, 23), (16, 16), (1, 5), (7, 40), (64, 33))


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def pixels(height: int, width: int) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(height))


def run(model: onnx.ModelProto, x: Tensor) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"input": x.numpy()})


AVERAGES: dict[str, Callable[[Tensor], Tensor]] = {
    "square": nn.AdaptiveAvgPool2d(4),
    "not square": nn.AdaptiveAvgPool2d((3, 5)),
    "one row": nn.AdaptiveAvgPool2d((1, 5)),
    "global": nn.AdaptiveAvgPool2d((1, 1)),
    "height kept": nn.AdaptiveAvgPool2d((None, 4)),
    "width kept": nn.AdaptiveAvgPool2d((2, None)),
    "all kept": nn.AdaptiveAvgPool2d((None, None)),
    "more bins than pixels": nn.AdaptiveAvgPool2d((50, 9)),
    "no batch": lambda x: F.adaptive_avg_pool2d(x[0], (3, 2)),
    "no batch, global": lambda x: F.adaptive_avg_pool2d(x[0], 1),
    "1-D": lambda x: nn.AdaptiveAvgPool1d(7)(x.flatten(2)),
    "1-D, one bin": lambda x: F.adaptive_avg_pool1d(x[0].flatten(1), (1,)),
    "1-D, under torch's other name": lambda x: torch.adaptive_avg_pool1d(x.flatten(2), 6),
    "to another map's size": lambda x: F.adaptive_avg_pool2d(x, x[..., ::2, ::3].shape[2:]),
}
MAXIMA: dict[str, Callable[[Tensor], Tensor]] = {
    "maximum, square": nn.AdaptiveMaxPool2d(4),
    "maximum, not square": nn.AdaptiveMaxPool2d((3, 5)),
    "maximum, global": nn.AdaptiveMaxPool2d(1),
    "maximum, height kept": nn.AdaptiveMaxPool2d((None, 4)),
    "maximum, more bins than pixels": nn.AdaptiveMaxPool2d((50, 9)),
    "maximum, no batch": lambda x: F.adaptive_max_pool2d(x[0], (3, 2)),
    "maximum, 1-D": lambda x: nn.AdaptiveMaxPool1d(7)(x.flatten(2)),
    "maximum, to another map's size": lambda x: F.adaptive_max_pool2d(x, x[..., ::2, ::3].shape[2:]),
}
POOLINGS = AVERAGES | MAXIMA


Graphs = dict[tuple[str, tuple[int, int]], onnx.ModelProto]


@pytest.fixture(scope="module", params=[False, True], ids=["static", "dynamic"])
def graphs(request: pytest.FixtureRequest) -> Graphs:
    """Every pooling at every size: a graph for each, or one for all sizes."""
    made: Graphs = {}
    with rewriting(OURS, dynamic=request.param):
        for name, pool in POOLINGS.items():
            once = graph_of(Function(pool), pixels(18, 26), dynamic=True) if request.param else None
            for size in SIZES:
                made[name, size] = once or graph_of(Function(pool), pixels(*size))
    return made


@pytest.mark.parametrize("name", POOLINGS)
def test_pooling_is_exact(graphs: Graphs, name: str) -> None:
    """Averages within the tolerance, maxima bit for bit; each graph passes the checks of an export."""
    for size in SIZES:
        x = pixels(*size)
        graph.check(graphs[name, size])
        (found,), wanted = run(graphs[name, size], x), POOLINGS[name](x).numpy()
        np.testing.assert_allclose(found, wanted, rtol=0, atol=proof.TOLERANCE if name in AVERAGES else 0)
        assert found.shape == wanted.shape


@pytest.mark.parametrize("bins", [*BINS, 7, 16])
def test_the_matrix_is_the_pooling_of_the_identity_at_every_length(bins: int) -> None:
    from deploy.rewrites.adaptive_pool import pooling_matrix

    for size in proof.SIZES:
        identity = torch.eye(size)
        wanted = F.adaptive_avg_pool1d(identity[None], bins)[0].T
        assert torch.equal(pooling_matrix(size, bins, identity), wanted)


def test_one_graph_is_exact_at_every_height() -> None:
    widths = [*range(1, 14), 21, 64, 127, 128]
    assert proof.dynamic_errors(proof.SIZES, widths).max() <= proof.TOLERANCE


@pytest.mark.slow
def test_one_graph_is_exact_at_every_size() -> None:
    assert proof.dynamic_errors(proof.SIZES, proof.SIZES).max() <= proof.TOLERANCE


SOME = ([1, 5, 17, 64, 127], [2, 6, 23, 128])


def test_static_graphs_are_exact() -> None:
    assert proof.static_errors(*SOME).max() <= proof.TOLERANCE


def test_control_mmdeploys_formula_fails_the_same_test() -> None:
    errors = proof.formula_errors(*SOME)
    assert errors[:, 0].max() <= proof.TOLERANCE  # one bin, which it leaves alone
    for column in errors[:, 1:].T:
        assert np.isinf(column).any()
        assert column[np.isfinite(column)].max() > 0.01


def test_control_the_graph_that_mmdeploy_makes_is_not_pspnets() -> None:
    x = pixels(64, 128)
    wanted = [output.numpy() for output in Pyramid()(x)]
    found = run(export(Pyramid(), x, MMDEPLOY), x)
    differences = [np.abs(f - w).max() for f, w in zip(found, wanted, strict=True)]
    assert differences[-1] > 0.01
    frozen = run(export(Pyramid(), x, MMDEPLOY, dynamic=True), pixels(100, 90))
    assert frozen[-1].shape[2:] != (6, 6)


@pytest.mark.parametrize("size", [(17, 23), (300, 2100)])
def test_float16_keeps_whole_numbers_whole(size: tuple[int, int]) -> None:
    """2100 is no float16: an index in that type would point elsewhere."""
    x = pixels(*size).half()
    found = run(export(Pyramid(), pixels(20, 30).half(), dynamic=True), x)
    for f, wanted in zip(found, Pyramid()(x.double()), strict=True):
        assert f.dtype == np.float16
        np.testing.assert_allclose(f, wanted.numpy(), rtol=0, atol=2e-3)


def test_ours_are_the_ones_that_mmdeploy_takes() -> None:
    from deploy.rewrites.adaptive_pool import REPLACES

    names = [f"adaptive_{kind}_pool{n}d" for kind in ("avg", "max") for n in (1, 2)]
    with rewriting(OURS):
        assert {getattr(F, name).__module__ for name in names} == {"deploy.rewrites.adaptive_pool"}
    with rewriting(MMDEPLOY):
        assert F.adaptive_avg_pool2d.__module__.startswith("mmdeploy.")
    assert tuple(getattr(F, name) for name in names) == REPLACES


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def test_a_static_graph_holds_its_matrices_as_initializers() -> None:
    model = export(Function(lambda x: [*Pyramid()(x), *Pyramid()(x.relu())]), pixels(64, 128))
    assert operators(model) == {"Relu": 1, "GlobalAveragePool": 2, "AveragePool": 2, "MatMul": 8}
    # 3 and 6 bins of 64 and of 128, each of them once though two maps are pooled.
    assert sorted(tuple(tensor.dims) for tensor in model.graph.initializer) == [(3, 64), (6, 64), (128, 3), (128, 6)]


def test_a_dynamic_graph_builds_a_matrix_once_for_an_axis_and_its_bins() -> None:
    twice = Function(lambda x: [*Pyramid()(x), *Pyramid()(x), F.adaptive_avg_pool2d(x, (3, 6))])
    model = export(twice, pixels(16, 16), dynamic=True)
    assert operators(model)["And"] == 6
    allowed = {"Shape", "Gather", "Range", "Mul", "Add", "Sub", "Div", "GreaterOrEqual", "Less", "And", "Cast"}
    assert set(operators(model)) <= allowed | {"Transpose", "MatMul", "GlobalAveragePool", "Unsqueeze", "Identity"}


def test_axes_that_are_equal_by_chance_are_not_taken_for_one() -> None:
    module = Function(lambda x: F.adaptive_avg_pool2d(x, 3) + F.adaptive_avg_pool2d(x.transpose(2, 3), 3))
    model = export(module, pixels(16, 16), dynamic=True)
    x = pixels(16, 24)
    np.testing.assert_allclose(run(model, x)[0], module(x).numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("pool", [nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d])
def test_indices_are_refused(pool: type[nn.Module]) -> None:
    x = torch.zeros(1, 3, 8) if pool is nn.AdaptiveMaxPool1d else torch.zeros(1, 3, 8, 8)
    with pytest.raises(UsageError, match="return_indices=True cannot be exported"):
        export(pool(2, return_indices=True), x)
