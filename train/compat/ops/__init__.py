"""A stand-in for `mmcv._ext`, the compiled half of mmcv, which mmcv-lite leaves out.

`install()` makes `import mmcv.ops` work on torchvision's CPU and CUDA kernels and plain torch. Each function has the
name and the arguments that the callers in `mmcv/ops/*.py` (mmcv 2.1.0) use, and like the compiled one writes its
result into the tensors it is given. An op that is not here raises `UnsupportedOpError` when it is called.
"""

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import NoReturn

import torchvision

from train.compat.ops import boxes, deform_conv, focal_loss, ms_deform_attn, psa_mask, roi_align
from train.compat.ops.errors import UnsupportedOpError

__all__ = ["UnsupportedOpError", "install"]


def get_compiler_version() -> str:
    """What stands where a compiled mmcv names its compiler (shown by `mmengine` and `mmdet` environment reports)."""
    return f"not compiled (stand-in on torchvision {torchvision.__version__})"


def get_compiling_cuda_version() -> str:
    """What a mmcv compiled without CUDA answers: nothing here was compiled against CUDA."""
    return "not available"


_OPS: tuple[Callable, ...] = (
    get_compiler_version,
    get_compiling_cuda_version,
    boxes.nms,
    boxes.nms_match,
    boxes.softnms,
    deform_conv.deform_conv_backward_input,
    deform_conv.deform_conv_backward_parameters,
    deform_conv.deform_conv_forward,
    deform_conv.modulated_deform_conv_backward,
    deform_conv.modulated_deform_conv_forward,
    focal_loss.sigmoid_focal_loss_backward,
    focal_loss.sigmoid_focal_loss_forward,
    focal_loss.softmax_focal_loss_backward,
    focal_loss.softmax_focal_loss_forward,
    ms_deform_attn.ms_deform_attn_backward,
    ms_deform_attn.ms_deform_attn_forward,
    psa_mask.psamask_backward,
    psa_mask.psamask_forward,
    roi_align.roi_align_backward,
    roi_align.roi_align_forward,
)


class _Extension(ModuleType):
    """A module that has every op: mmcv asserts that a name exists when it imports, long before anyone calls it."""

    def __getattr__(self, name: str) -> Callable[..., NoReturn]:
        # A leading underscore is Python asking (`__path__`, `__file__`), never an op.
        if name.startswith("_"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")

        def unsupported(*args: object, **kwargs: object) -> NoReturn:
            raise UnsupportedOpError(name)

        return unsupported


class _Finder(MetaPathFinder, Loader):
    """Python asks it last, after looking for a compiled `mmcv._ext` in the installed mmcv."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname == "mmcv._ext" else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Extension(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        for op in _OPS:
            setattr(module, op.__name__, op)


def install() -> None:
    """Make the stand-in importable as `mmcv._ext`. A compiled one wins; calling again changes nothing.

    Call it before anything imports `mmcv.ops`, `mmcv.cnn.bricks.transformer` or `mmdet`: they look for the ops once,
    when they are imported.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
