from types import ModuleType

import pytest
import torch

from train.compat.ops import install


@pytest.fixture(scope="session")
def ops() -> ModuleType:
    """`mmcv.ops`, on the stand-in for its compiled half."""
    install()
    import mmcv.ops

    return mmcv.ops


@pytest.fixture(
    params=[
        "cpu",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no NVIDIA GPU"),
            ],
        ),
    ]
)
def device(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)
