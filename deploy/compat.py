"""MMDeploy 1.3.1 (2023) and torch's TorchScript exporter on today's torch: each quirk in one place, with its reason."""

import contextlib
import functools
import warnings
from collections.abc import Iterator
from functools import cache

import torch


@cache
def apply() -> None:
    """Prepare MMDeploy. Idempotent, and free after the first call."""
    from train import compat

    compat.apply()
    _declare_scopes()


def _declare_scopes() -> None:
    """Give MMDeploy's registries a child for each OpenMMLab scope.

    MMDeploy builds its task processors from registries of its own while the default scope is the model's package.
    MMEngine then looks for that package's branch of the registry, finds none, warns and falls back. The branches exist
    once declared; lookups go through them to MMDeploy's own entries.
    """
    from mmdeploy.codebase.base.mmcodebase import CODEBASE
    from mmengine.registry import Registry

    for scope in ("mmpretrain", "mmdet", "mmseg"):
        if scope not in CODEBASE.children:
            Registry(CODEBASE.name, parent=CODEBASE, scope=scope)


def declare_task_scope(codebase: str) -> None:
    """The same for the registry of a codebase's tasks, which MMDeploy makes when the codebase is first imported."""
    from mmdeploy.codebase import import_codebase
    from mmdeploy.codebase.base.mmcodebase import get_codebase_class
    from mmdeploy.utils import get_codebase
    from mmengine.registry import Registry

    key = get_codebase(dict(codebase_config=dict(type=codebase)))
    import_codebase(key)
    registry = get_codebase_class(key).task_registry
    if codebase not in registry.children:
        Registry(registry.name, parent=registry, scope=codebase)


@contextlib.contextmanager
def torchscript_exporter() -> Iterator[None]:
    """Make `torch.onnx.export` use the TorchScript exporter, which MMDeploy's rewriters and symbolics are written for.

    torch 2.9 made `dynamo=True` the default; MMDeploy calls the function without saying.
    """
    original = torch.onnx.export
    torch.onnx.export = functools.partial(original, dynamo=False)
    try:
        with warnings.catch_warnings():
            # torch says at each call that this exporter is the old one. It is the one meant here.
            warnings.filterwarnings(
                "ignore", message=".*legacy TorchScript-based ONNX export", category=DeprecationWarning
            )
            # What tracing froze is found by numbers: parity at three sizes or more, not by a line for every assert.
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
            yield
    finally:
        torch.onnx.export = original
