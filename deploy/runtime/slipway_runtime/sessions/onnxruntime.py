"""ONNX Runtime: `.onnx` on the CPU or an NVIDIA GPU."""

import contextlib
import io
import itertools
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

from slipway_runtime.errors import BundleError, SessionError
from slipway_runtime.manifest import TensorSpec
from slipway_runtime.sessions import Bound, Feeds, Session

#: An execution provider's name and options.
Provider: TypeAlias = tuple[str, dict[str, str]]

_PROVIDERS: dict[str, Provider] = {
    "cpu": ("CPUExecutionProvider", {}),
    # TF32 keeps 10 of float32's 23 bits of mantissa; a float32 graph computes in float32.
    "cuda": ("CUDAExecutionProvider", {"use_tf32": "0"}),
}
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
    "tensor(int8)": "int8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(bool)": "bool",
}
#: What ONNX Runtime raises over a file; its exceptions share no base class.
_BAD_FILE = (
    ort_state.Fail,
    ort_state.InvalidArgument,
    ort_state.InvalidGraph,
    ort_state.InvalidProtobuf,
    ort_state.NoModel,
    ort_state.NoSuchFile,
    UnicodeDecodeError,
)
#: What it raises over a machine: a device that fails, an operator that this build lacks.
_BAD_MACHINE = (
    ort_state.EPFail,
    ort_state.EngineError,
    ort_state.NotImplemented,
    ort_state.RuntimeException,
    RuntimeError,
)
#: How it names what CUDA and its libraries report, which it raises as it does a damaged file.
_CUDA_FAILED = re.compile(r"\b(CUDA|CUDNN|CUBLAS|CUFFT)\b", re.IGNORECASE)
#: Where in its sources it found something wrong: a line and a whole signature, before the sentence that says what.
_PLACE = re.compile(r"/onnxruntime_src/\S+:\d+ .*?\) (?=[A-Z])")


class OnnxRuntimeSession(Session):
    """An ONNX file opened by ONNX Runtime.

    Args:
        path: the file.
        device: "cpu" or "cuda".
        threads: inside an operator, on the CPU; the engine decides when `None`.
        provider: an execution provider and its options, to be asked before the device's own; that one then computes what
            the first does not take.
        cuda_graphs: whether bound calls launch a recorded CUDA graph, on device "cuda"; each keeps outputs of its own.

    Raises:
        BundleError: a damaged file, or external data that is missing or lies outside the file's folder (ONNX Runtime
            looks at that since 1.24; Python 3.10 has 1.23).
        SessionError: a device that is not there or does not start, or CUDA graphs of shapes that vary. Never a silent
            fall-back to the CPU.
    """

    name = "onnxruntime"

    def __init__(
        self,
        path: Path,
        device: str = "cpu",
        threads: int | None = None,
        provider: Provider | None = None,
        cuda_graphs: bool = False,
    ) -> None:
        self.device = device
        self._cuda_graphs = cuda_graphs
        self._unrecorded = _recorded(-1) if cuda_graphs else None
        own = _own(device, cuda_graphs)
        self._session = _open(path, device, threads, [provider, own] if provider else [own])
        try:
            super().__init__(_specs(self._session.get_inputs()), _specs(self._session.get_outputs()))
            self.metadata = dict(self._session.get_modelmeta().custom_metadata_map)
        except ValueError as error:
            raise BundleError(f"{path}: not a usable ONNX file ({_line(error)}); export again")
        if cuda_graphs:
            _refuse_symbols(path, (*self.inputs, *self.outputs))

    def _run(self, feeds: Feeds) -> dict[str, NDArray]:
        names = [spec.name for spec in self.outputs]
        with _translated(self.name):
            return dict(zip(names, self._session.run(names, dict(feeds), self._unrecorded), strict=True))

    def _bind(self, feeds: Feeds) -> Bound:
        return _Recorded(self, feeds) if self._cuda_graphs else _Bound(self, feeds)


class _Bound(Bound):
    """Inputs and outputs by ONNX Runtime's I/O binding."""

    def __init__(self, session: OnnxRuntimeSession, feeds: Feeds) -> None:
        super().__init__(session)
        self._names = [spec.name for spec in session.outputs]
        self._device = session.device
        self._engine = session._session
        self._binding = session._session.io_binding()
        with _translated(session.name):
            for name, array in feeds.items():
                self._binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array, self._device, 0))
            self._binding.synchronize_inputs()

    def _compute(self) -> Any:
        with _translated(self._session.name):
            for name in self._names:
                self._binding.bind_output(name, self._device)
            self._engine.run_with_iobinding(self._binding)
            self._binding.synchronize_outputs()
            outputs = self._binding.get_outputs()
            self._binding.clear_binding_outputs()
        return outputs

    def _fetch(self, outputs: Any) -> dict[str, NDArray]:
        return {name: value.numpy() for name, value in zip(self._names, outputs, strict=True)}


class _Recorded(_Bound):
    """Inputs and outputs that stay where they are, as a CUDA graph needs them; ONNX Runtime records it at the first call."""

    _numbers = itertools.count(1)

    def __init__(self, session: OnnxRuntimeSession, feeds: Feeds) -> None:
        super().__init__(session, feeds)
        self._options = _recorded(next(self._numbers))
        with _translated(session.name):
            self._outputs = [
                ort.OrtValue.ortvalue_from_shape_and_type(spec.shape, np.dtype(spec.dtype), self._device, 0)
                for spec in session.outputs
            ]
            for name, value in zip(self._names, self._outputs, strict=True):
                self._binding.bind_ortvalue_output(name, value)

    def _compute(self) -> Any:
        with _translated(self._session.name):
            self._engine.run_with_iobinding(self._binding, self._options)
            self._binding.synchronize_outputs()
        return self._outputs


SUFFIX = ".onnx"
ENGINE = OnnxRuntimeSession


def _own(device: str, cuda_graphs: bool) -> Provider:
    """A device's own provider."""
    name, options = _PROVIDERS[device]
    if not cuda_graphs:
        return name, options
    if device != "cuda":
        raise SessionError(f"CUDA graphs are for device cuda, not {device}")
    return name, {**options, "enable_cuda_graph": "1"}


def _recorded(number: int) -> ort.RunOptions:
    """Options of a call: which CUDA graph it records or launches; −1: none, for arrays that lie elsewhere each time."""
    options = ort.RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(number))
    return options


def _refuse_symbols(path: Path, specs: Sequence[TensorSpec]) -> None:
    for spec in specs:
        if any(isinstance(size, str) for size in spec.shape):
            raise SessionError(
                f"{path}: CUDA graphs need fixed shapes, '{spec.name}' is {spec.shape}; export with SHAPE=static"
            )


def _open(path: Path, device: str, threads: int | None, providers: list[Provider]) -> ort.InferenceSession:
    provider = providers[0][0]
    found = ort.get_available_providers()
    if provider not in found:
        raise SessionError(
            f"device '{device}' needs {provider}, this onnxruntime has {', '.join(found)};"
            " install onnxruntime-gpu in its place or use device cpu"
        )
    if device == "cuda":
        # Loads CUDA from the nvidia-* packages where those are installed. It reports on stdout, which is not ours.
        with contextlib.redirect_stdout(io.StringIO()):
            ort.preload_dlls()
    options = ort.SessionOptions()
    options.log_severity_level = 4  # fatal only: every error is raised as well
    options.inter_op_num_threads = 1
    options.intra_op_num_threads = threads or _allowed()
    try:
        session = ort.InferenceSession(path, options, providers=providers, enable_fallback=0)
    except (*_BAD_FILE, *_BAD_MACHINE) as error:
        raise _refused(path, device, error)
    if session.get_providers()[0] != provider:
        raise SessionError(
            f"{provider} did not start, onnxruntime offers {', '.join(session.get_providers())} instead;"
            f" it needs CUDA {ort.cuda_version} with cuDNN and a driver for it, or use device cpu"
        )
    return session


def _allowed() -> int:
    """The cores that this process may use where those are not all; else 0, which lets ONNX Runtime choose.

    It counts a container's forbidden cores too, and complains on stderr of each that it cannot have.
    """
    if not hasattr(os, "sched_getaffinity"):
        return 0
    cores = len(os.sched_getaffinity(0))
    return cores if cores < (os.cpu_count() or 0) else 0


def _refused(path: Path, device: str, error: Exception) -> BundleError | SessionError:
    """What an error at opening means: a bad file, or a machine that cannot run it."""
    # The path may well lie in a folder called cuda.
    of_cuda = device == "cuda" and _CUDA_FAILED.search(str(error).replace(str(path), ""))
    if isinstance(error, _BAD_FILE) and not of_cuda:
        return BundleError(f"{path}: not a usable ONNX file ({_line(error)}); export again")
    return SessionError(f"{path}: onnxruntime cannot run this graph on {device} ({_line(error)})")


def _specs(nodes: Sequence[Any]) -> list[TensorSpec]:
    """Inputs or outputs as ONNX Runtime reports them; a dimension without a name gets one."""
    specs = []
    for node in nodes:
        if node.type not in _DTYPES:
            raise ValueError(f"'{node.name}' is a {node.type}, expected one of {', '.join(_DTYPES)}")
        shape = tuple(size if size else f"{node.name}.{axis}" for axis, size in enumerate(node.shape))
        specs.append(TensorSpec.model_validate({"name": node.name, "dtype": _DTYPES[node.type], "shape": shape}))
    return specs


@contextlib.contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        yield
    except (*_BAD_FILE, *_BAD_MACHINE) as error:
        raise SessionError(f"{name}: the graph failed on this input ({_line(error)})")


def _line(error: Exception) -> str:
    text = _PLACE.sub("", " ".join(str(error).split()))
    return text if len(text) <= 400 else f"{text[:150]} … {text[-250:]}"
