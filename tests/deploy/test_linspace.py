"""`torch.linspace` of lengths and ends that the graph learns when it runs, as places of deformable attention are made."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from traced import one_graph, run


class Spaced(nn.Module):
    """Centres of rows, coordinates of columns from −1 to 1, and a line that nothing depends on."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        sizes: Any = torch._shape_as_tensor(x)  # of which types know numbers only
        height, width = sizes.unbind()
        rows = torch.linspace(0.5, height - 0.5, height, dtype=torch.float32)
        columns = torch.linspace(-1, 1, x.shape[1], device=x.device)
        return rows, columns, torch.linspace(0, 1, 5) + 0 * x[0, :1], torch.linspace(2.0, width * 3, 4)


def test_values_are_torchs_for_every_length(tmp_path: Path) -> None:
    model = Spaced()
    names = ("rows", "columns", "line", "ends")
    axes = {"x": {0: "h", 1: "w"}, "rows": {0: "h"}, "columns": {0: "w"}}
    session = one_graph(model, {"x": torch.zeros(4, 7)}, names, axes, tmp_path / "linspace.onnx")
    for height, width in ((4, 7), (1, 1), (2, 1), (1, 2), (13, 200), (5000, 3)):
        x = torch.zeros(height, width)
        for name, wanted in zip(names, model(x), strict=True):
            found = run(session, x)[name]
            assert found.dtype == wanted.dtype
            # Torch's own vector and scalar loops differ by a rounding.
            assert torch.allclose(found, wanted, rtol=3e-7, atol=1.2e-7), (name, height, width)
