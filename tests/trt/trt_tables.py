"""Write `api/VERSION.json` anew: which names TensorRT's real Python bindings have, and what their arguments are called.

    python tests/trt/trt_tables.py WHEEL…

Wheels of `tensorrt` 8.6.0 and of `tensorrt-cu13-bindings` 10.16.1.11 and 11.4.0.106 gave those that are committed. The
bindings are imported, so a Python of each wheel's version must be on PATH. Neither a GPU nor TensorRT's libraries are
needed: libraries of their names whose functions return null take their place.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

API = Path(__file__).with_name("api")
ABOUT = [
    "Names of TensorRT's real Python bindings, from the wheel itself; tests/trt/trt_tables.py writes this file.",
    "classes: each method with the names of its arguments, one list an overload; 'read': a property, 'write': one that can be set.",
    "enums: members and their numbers. functions: of the module. names: every public name of the module.",
    "overridden: methods that a subclass gives, as the docstring of the class shows them; the class itself may lack them.",
]
CLASSES = re.findall(
    r"\w+",
    """
    Builder IBuilderConfig INetworkDefinition ILayer ITensor IOptimizationProfile IProgressMonitor ITimingCache
    OnnxParser ParserError Runtime ICudaEngine IExecutionContext IOutputAllocator EngineInspector
    IHostMemory ILogger Logger Dims
    """,
)
ENUMS = re.findall(
    r"\w+",
    """
    BuilderFlag DataType EngineCapability EngineStat ErrorCode ExecutionContextAllocationStrategy
    HardwareCompatibilityLevel LayerInformationFormat LayerType MemoryPoolType NetworkDefinitionCreationFlag
    OnnxParserFlag PreviewFeature ProfilingVerbosity QuantizationFlag RuntimePlatform SerializationFlag
    TacticSource TempfileControlFlag TensorFormat TensorIOMode TensorLocation TilingOptimizationLevel
    """,
)
#: The libraries' functions that the bindings refer to; the last four, of 8.6, are C++'s.
STUBBED = re.findall(
    r"\w+",
    """
    createInferBuilder_INTERNAL createInferRefitter_INTERNAL createInferRuntime_INTERNAL
    createNvOnnxParser_INTERNAL createNvOnnxParserRefitter_INTERNAL getBuilderPluginRegistry getPluginRegistry
    getNvOnnxParserVersion initLibNvInferPlugins _ZN11nvuffparser15createUffParserEv
    _ZN11nvuffparser8FieldMapC1EPKcPKvNS_9FieldTypeEi _ZN14nvcaffeparser117createCaffeParserEv
    _ZN14nvcaffeparser123shutdownProtobufLibraryEv
    """,
)
_LIBRARY = re.compile(rb"\0(libnv\w+\.so\.\d+)(?=\0)")
_SIGNATURE = re.compile(r"^(?:\d+\. )?(\w+)\((.*)\) -> ", re.MULTILINE)
_OVERRIDDEN = re.compile(r"^\s+def (\w+)\(self(?:, )?(.*)\):", re.MULTILINE)


class UnusableError(Exception):
    """A wheel whose bindings cannot be imported here."""


def table(wheel: Path) -> dict:
    """What the bindings in a wheel have.

    Raises:
        UnusableError: no C compiler, or no Python of the wheel's version.
    """
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise UnusableError("there is no C compiler for the empty libraries")
    with tempfile.TemporaryDirectory() as folder:
        package = _unpack(wheel, Path(folder))
        code = "".join(f"void *{name}(void) {{return 0;}}" for name in STUBBED)
        for library in set(_LIBRARY.findall((Path(folder) / package / "tensorrt.so").read_bytes())):
            target = Path(folder) / "stubs" / library.decode()
            target.parent.mkdir(exist_ok=True)
            command = [compiler, "-shared", "-x", "c", "-", "-o", str(target)]
            subprocess.run(command, input=code, text=True, check=True)
        command = [*_python(wheel), __file__, "--names", folder, package]
        env = {**os.environ, "LD_LIBRARY_PATH": f"{folder}/stubs"}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnusableError(f"{wheel.name}: its bindings cannot be imported: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout)


def text(found: dict) -> str:
    """A table as its file holds it: a line a name, so that two versions can be compared."""
    lines = re.sub(
        r"\[\s+([^\[\]{}]*?)\s+\]", lambda match: "[" + re.sub(r"\s+", " ", match[1]) + "]", _indented(found)
    )
    return (
        re.sub(
            r"\[\s+(\[[^{}\n]*\](?:,\s+\[[^{}\n]*\])*)\s+\]", lambda m: "[" + re.sub(r",\s+", ", ", m[1]) + "]", lines
        )
        + "\n"
    )


def names(folder: str, package: str) -> dict:
    """What bindings that can be imported from a folder have."""
    sys.path.insert(0, folder)
    module = __import__(package)
    public = sorted(name for name in vars(module) if not name.startswith("_"))
    enums, functions = {}, {}
    for name in public:
        value = getattr(module, name)
        if name in ENUMS:
            enums[name] = _members(value)
        elif type(value).__name__ == "builtin_function_or_method":
            functions[name] = _arguments(value)
    enums["ILogger.Severity"] = _members(module.ILogger.Severity)
    classes = {name: _attributes(getattr(module, name)) for name in CLASSES if name in public}
    overridden = {name: dict(_OVERRIDDEN.findall(getattr(module, name).__doc__ or "")) for name in classes}
    return {
        "about": ABOUT,
        "version": module.__version__,
        "classes": classes,
        "enums": enums,
        "functions": functions,
        "names": public,
        "overridden": {
            name: {method: [["self", *given.split(", ")]] for method, given in methods.items() if method != "__init__"}
            for name, methods in overridden.items()
            if methods
        },
    }


def _indented(found: dict) -> str:
    return json.dumps(found, indent=1, sort_keys=True)


def _unpack(wheel: Path, folder: Path) -> str:
    """The bindings only: the wheel of 8.6 holds 1 GB of libraries too. Returns the package's name."""
    with zipfile.ZipFile(wheel) as archive:
        members = [name for name in archive.namelist() if name.endswith(".py") or name.endswith("/tensorrt.so")]
        archive.extractall(folder, members)
    return next(name for name in members if name.endswith("/tensorrt.so")).split("/")[0]


def _python(wheel: Path) -> list[str]:
    found = re.search(r"-cp(\d)(\d+)-", wheel.name)
    if found is None:
        raise UnusableError(f"{wheel.name}: the file's name says no version of Python (cp310, cp311)")
    if sys.version_info[:2] == (int(found[1]), int(found[2])):
        return [sys.executable]
    program = shutil.which(f"python{found[1]}.{found[2]}")
    if program is None or subprocess.run([program, "--version"], capture_output=True, check=False).returncode:
        raise UnusableError(f"{wheel.name}: there is no Python {found[1]}.{found[2]}")
    return [program]


def _members(enum: type) -> dict:
    return {name: int(value) for name, value in enum.__members__.items()}


def _attributes(owner: type) -> dict:
    found = {}
    for name in dir(owner):
        value = getattr(owner, name)
        if name.startswith("_") and name != "__init__":
            continue
        if isinstance(value, property):
            found[name] = "write" if value.fset else "read"
        elif hasattr(value, "__members__"):
            found[name] = "enum"
        elif callable(value):
            found[name] = _arguments(value)
        else:
            found[name] = "constant"
    if found.get("__init__") == []:
        del found["__init__"]
    return found


def _arguments(function: object) -> list:
    """The names of a function's arguments, from pybind11's docstring: `name(self: X, count: int = 3) -> R`."""
    return [
        _split(arguments)
        for _, arguments in _SIGNATURE.findall(function.__doc__ or "")
        if arguments != "*args, **kwargs"
    ]


def _split(arguments: str) -> list:
    depth, parts = 0, [""]
    for letter in arguments:
        depth += (letter in "[(<{") - (letter in "])>}")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.split(":")[0].strip() for part in parts if part.strip()]


def main(arguments: list) -> None:
    """The command."""
    if arguments[:1] == ["--names"]:
        print(json.dumps(names(*arguments[1:])))
        return
    for wheel in map(Path, arguments):
        found = table(wheel)
        (API / f"{found['version']}.json").write_text(text(found))


if __name__ == "__main__":
    main(sys.argv[1:])
