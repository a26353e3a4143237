"""ONNX Runtime: `.onnx` on the CPU or an NVIDIA GPU."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

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


class OnnxRuntimeSession(Session):
    """An ONNX file opened by ONNX Runtime.

    Args:
        path: the file.
        device: "cpu" or "cuda".
        threads: inside an operator, on the CPU; the engine decides when `None`.
        provider: an execution provider and its options, to be asked before the device's own; that one then computes what
            the first does not take.

    Raises:
        BundleError: a damaged file, or external data that is missing or lies outside the file's folder (ONNX Runtime
            looks at that since 1.24; Python 3.10 has 1.23).
        SessionError: a device that is not there. Never a silent fall-back to the CPU.
    """

    name = "onnxruntime"

    def __init__(
        self, path: Path, device: str = "cpu", threads: int | None = None, provider: Provider | None = None
    ) -> None:
        self.device = device
        self._session = _open(
            path, device, threads, [provider, _PROVIDERS[device]] if provider else [_PROVIDERS[device]]
        )
        try:
            super().__init__(_specs(self._session.get_inputs()), _specs(self._session.get_outputs()))
            self.metadata = dict(self._session.get_modelmeta().custom_metadata_map)
        except ValueError as error:
            raise BundleError(f"{path}: not a usable ONNX file ({_line(error)}); export again")

    def _run(self, feeds: Feeds) -> dict[str, NDArray]:
        names = [spec.name for spec in self.outputs]
        with _translated(self.name):
            return dict(zip(names, self._session.run(names, dict(feeds)), strict=True))

    def _bind(self, feeds: Feeds) -> Bound:
        return _Bound(self, feeds)


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


SUFFIX = ".onnx"
ENGINE = OnnxRuntimeSession


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
    if threads:
        options.intra_op_num_threads = threads
    try:
        session = ort.InferenceSession(path, options, providers=providers, enable_fallback=0)
    except _BAD_FILE as error:
        raise BundleError(f"{path}: not a usable ONNX file ({_line(error)}); export again")
    except _BAD_MACHINE as error:
        raise SessionError(f"{path}: onnxruntime cannot run this graph on {device} ({_line(error)})")
    if session.get_providers()[0] != provider:
        raise SessionError(
            f"{provider} did not start, onnxruntime offers {', '.join(session.get_providers())} instead;"
            f" it needs CUDA {ort.cuda_version} with cuDNN and a driver for it, or use device cpu"
        )
    return session


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
    return " ".join(str(error).split())[:300]
