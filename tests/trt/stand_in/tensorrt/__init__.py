"""Stand-in of `tensorrt`, for tests only, never used by the product: see tests/trt/trt_fixtures.py.

It has the names that the real bindings of the version STAND_IN_TENSORRT have (8.6.0, 10.16.1.11 or 11.4.0.106) and no others.
"""

from typing import Any as _Any

from . import _basic, _builder, _context, _engine, _network
from ._api import TABLE as _TABLE
from ._api import VERSION as __version__
from ._api import enum as _enum

_MADE = {
    name: value
    for module in (_basic, _network, _builder, _context, _engine)
    for name, value in vars(module).items()
    if name in _TABLE["names"] and isinstance(value, type)
}
_MADE |= {name: _enum(name) for name in _TABLE["enums"] if "." not in name and name not in _MADE}
globals().update(_MADE)

_SHORT = {"float32": "FLOAT", "float16": "HALF", "bfloat16": "BF16", "int4": "INT4", "fp4": "FP4", "e8m0": "E8M0"}
_MEMBERS = {each: getattr(_basic.DataType, _SHORT.get(each, each.upper()), None) for each in _TABLE["names"]}
globals().update({each: member for each, member in _MEMBERS.items() if member is not None})


def volume(iterable: _Any) -> int:
    """How many elements a shape has."""
    product = 1
    for size in iterable:
        product *= size
    return product


def nptype(trt_type: _Any) -> _Any:
    """numpy's type of a DataType."""
    import numpy as np

    if trt_type.name not in _basic.NUMPY:
        raise TypeError("Could not resolve TensorRT datatype to an equivalent numpy datatype.")
    return np.dtype(_basic.NUMPY[trt_type.name]).type


def get_nv_onnx_parser_version() -> int:
    """The parser's version as one number."""
    major, minor, patch = (int(part) for part in __version__.split(".")[:3])
    return (major * 100 + minor) * 100 + patch


def init_libnvinfer_plugins(logger: _Any, namespace: str) -> bool:
    """Register TensorRT's own plugins, which some of ONNX's operators become."""
    _network.PLUGINS.ready = True
    return True


def __getattr__(name: str) -> _Any:
    if name in _TABLE["names"]:
        raise NotImplementedError(f"the stand-in of TensorRT does not play {name}")
    raise AttributeError(f"module 'tensorrt' has no attribute '{name}' in {__version__}")
