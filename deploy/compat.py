"""MMDeploy 1.3.1 (2023) and torch's TorchScript exporter on today's torch: each quirk in one place, with its reason."""

import contextlib
import functools
import inspect
import sys
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
    _make_defaults()


def _make_defaults() -> None:
    """Let MMDeploy's rewrites for any backend be its defaults, those too that ask for a package's version.

    Such a one counts as a specific one, and being registered first it would win over ours (mmpretrain's ShiftWindowMSA).
    """
    from mmdeploy.core import FUNCTION_REWRITER
    from mmdeploy.core.rewriters.rewriter_utils import LibVersionChecker, collect_env
    from mmdeploy.utils import IR, Backend

    environment = collect_env(Backend.ONNXRUNTIME, IR.ONNX)
    for records in FUNCTION_REWRITER._registry._rewrite_records.values():
        for record in records:
            checkers = record["_checkers"]
            if all(isinstance(each, LibVersionChecker) and each.check(environment) for each in checkers):
                record["_checkers"] = []


@contextlib.contextmanager
def static_methods() -> Iterator[None]:
    """Give classes their static methods back after an export: MMDeploy leaves bare functions, which take `self`, in their place.

    The unpatched model, which what was exported is compared with, would run those.
    """
    from mmdeploy.core import FUNCTION_REWRITER

    kept = []
    for path in FUNCTION_REWRITER._registry._rewrite_records:
        owner, name = _loaded(path.rpartition(".")[0]), path.rpartition(".")[2]
        if inspect.isclass(owner) and isinstance(owner.__dict__.get(name), staticmethod):
            kept.append((owner, name, owner.__dict__[name]))
    try:
        yield
    finally:
        for owner, name, method in kept:
            setattr(owner, name, method)


def _loaded(path: str) -> object:
    """What a dotted path leads to, as far as its module is imported; else None."""
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        found: object = sys.modules.get(".".join(parts[:count]))
        if found is not None:
            for name in parts[count:]:
                found = getattr(found, name, None)
            return found
    return None


@contextlib.contextmanager
def torchscript_exporter() -> Iterator[None]:
    """Make `torch.onnx.export` use the TorchScript exporter, which MMDeploy's rewriters and symbolics are written for.

    torch 2.9 made `dynamo=True` the default; MMDeploy calls the function without saying. What MMDeploy leaves behind is put right
    afterwards (`static_methods`).
    """
    original = torch.onnx.export
    torch.onnx.export = functools.partial(original, dynamo=False)
    try:
        with warnings.catch_warnings(), static_methods():
            # torch says at each call that this exporter is the old one. It is the one meant here.
            warnings.filterwarnings(
                "ignore", message=".*legacy TorchScript-based ONNX export", category=DeprecationWarning
            )
            # What tracing froze is found by numbers: parity at three sizes or more, not by a line for every assert.
            warnings.filterwarnings("ignore", category=torch.jit.TracerWarning)
            yield
    finally:
        torch.onnx.export = original
