"""Enumerations, loggers, shapes and memory."""

import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from ._api import MAJOR, Real, enum

DataType = enum("DataType")
TensorIOMode = enum("TensorIOMode")
TensorLocation = enum("TensorLocation")
TensorFormat = enum("TensorFormat")
BuilderFlag = enum("BuilderFlag")
NetworkDefinitionCreationFlag = enum("NetworkDefinitionCreationFlag")
MemoryPoolType = enum("MemoryPoolType")
ProfilingVerbosity = enum("ProfilingVerbosity")
HardwareCompatibilityLevel = enum("HardwareCompatibilityLevel")
TacticSource = enum("TacticSource")
LayerInformationFormat = enum("LayerInformationFormat")
LayerType = enum("LayerType")
EngineCapability = enum("EngineCapability")
ErrorCode = enum("ErrorCode")

#: numpy's name of each data type that numpy has.
NUMPY = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "INT32": "int32",
    "BOOL": "bool",
    "UINT8": "uint8",
    "INT64": "int64",
}
SIZES = {"FLOAT": 4, "HALF": 2, "INT8": 1, "INT32": 4, "BOOL": 1, "UINT8": 1, "FP8": 1, "BF16": 2, "INT64": 8}
DataType.itemsize = property(lambda self: SIZES[self.name])


class ILogger(Real):
    """Base of loggers: a subclass gives log(severity, msg)."""

    Severity = enum("ILogger.Severity")

    def __init__(self) -> None:
        self._initialised = True

    def log(self, severity: Any, msg: str) -> None:
        raise RuntimeError('Tried to call pure virtual function "nvinfer1::ILogger::log"')


class Logger(ILogger):
    """Writes what is severe enough to standard error."""

    def __init__(self, min_severity: Any = None) -> None:
        super().__init__()
        self._least = ILogger.Severity.WARNING if min_severity is None else min_severity

    @property
    def min_severity(self) -> Any:
        return self._least

    @min_severity.setter
    def min_severity(self, severity: Any) -> None:
        self._least = severity

    def log(self, severity: Any, msg: str) -> None:
        if int(severity) <= int(self._least):
            print(f"[TRT] [{severity.name[0]}] {msg}", file=sys.stderr)


for _name, _severity in ILogger.Severity.__members__.items():
    setattr(ILogger, _name, _severity)


class Log:
    """A logger that is called by severity."""

    def __init__(self, logger: ILogger) -> None:
        if not isinstance(logger, ILogger):
            raise TypeError("incompatible constructor arguments: an ILogger is expected")
        self.logger = logger

    def error(self, text: str) -> None:
        self.logger.log(ILogger.Severity.ERROR, text)

    def warning(self, text: str) -> None:
        self.logger.log(ILogger.Severity.WARNING, text)

    def info(self, text: str) -> None:
        self.logger.log(ILogger.Severity.INFO, text)


class Dims(Real):
    """A shape; iterable."""

    def __init__(self, shape: Iterable[int] = ()) -> None:
        self._shape = tuple(int(size) for size in shape)

    def __len__(self) -> int:
        return len(self._shape)

    def __getitem__(self, index: Any) -> Any:
        return self._shape[index]

    def __iter__(self) -> Iterator[int]:
        return iter(self._shape)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dims) and tuple(self) == tuple(other)

    __hash__ = None

    def __repr__(self) -> str:
        return str(self._shape)


class IHostMemory(bytearray):
    """Bytes that the library owns: a buffer; `nbytes` long."""

    @property
    def nbytes(self) -> int:
        return len(self)

    @property
    def dtype(self) -> Any:
        return DataType.INT8


def seed(name: str) -> str:
    """What a test asked for; empty otherwise."""
    return os.environ.get(name, "")


def dtype_of(numpy_name: str, narrow: bool = MAJOR < 10) -> Any:
    """The engine's data type of an ONNX tensor; TensorRT 8 narrows int64 to int32. None where it has none."""
    if narrow and numpy_name == "int64":
        return DataType.INT32
    found = [name for name, each in NUMPY.items() if each == numpy_name]
    return DataType.__members__.get(found[0]) if found else None
