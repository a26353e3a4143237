"""What the product calls of TensorRT is there in 8.6, 10 and 11 alike, or stands behind a capability."""

import ast
import inspect
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from trt_fixtures import API, VERSIONS, playing
from trt_tables import UnusableError, table, text

ROOT = Path(__file__).parents[2]
RUNTIME = ROOT / "deploy" / "runtime" / "slipway_runtime"
FILES = [
    *sorted((ROOT / "deploy" / "engines").rglob("*.py")),
    *(RUNTIME / name for name in ("cuda.py", "trt.py", "sessions/tensorrt.py")),
    ROOT / "benchmarks" / "backends" / "tensorrt.py",
]
TABLES = {version: json.loads((API / f"{version}.json").read_text()) for version in VERSIONS}
#: What the product's variables and attributes of these names are.
OBJECTS = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parsed": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "layer": "ILayer",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "_engine": "ICudaEngine",
    "context": "IExecutionContext",
}
#: Class and name of what some version lacks and no capability names.
GUARDED = {
    ("ICudaEngine", "device_memory_size"),  # `getattr` finds the newer or the older one
    ("ICudaEngine", "device_memory_size_v2"),
    ("ILayer", "set_output_type"),  # not called for strongly typed networks
}
#: Every module has these.
ALWAYS = ("__version__", "__file__", "__name__")

Use = tuple[str, str]


def has(version: str, owner: str, name: str) -> bool:
    """Whether a version's bindings have a name; the owner "" is the module."""
    found = TABLES[version]
    if not owner:
        return name in found["names"] or name in ALWAYS
    return any(name in found[part].get(owner, ()) for part in ("classes", "enums", "overridden"))


def uses(code: str) -> set[Use]:
    """(class, name) of all that code takes from `trt`, and from objects with the names in OBJECTS."""
    tree = ast.parse(code)
    # `engine` and the like are TensorRT's in files that speak of it only; `context` is nobody else's.
    speaks = any(isinstance(node, ast.Name) and node.id == "trt" for node in ast.walk(tree))
    mine = (set(OBJECTS) if speaks else {"context"}) - set(imported(tree))
    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        owner = node.value
        if isinstance(owner, ast.Name) and owner.id == "trt":
            found.add(("", node.attr))
        elif isinstance(owner, ast.Attribute) and isinstance(owner.value, ast.Name) and owner.value.id == "trt":
            found.add((owner.attr, node.attr))
        elif isinstance(owner, ast.Name) and owner.id in mine:
            found.add((OBJECTS[owner.id], node.attr))
        elif isinstance(owner, ast.Attribute) and owner.attr in mine & {"_engine", "context"}:
            found.add((OBJECTS[owner.attr], node.attr))
    return found


def imported(tree: ast.AST) -> Iterator[str]:
    """The names that imports bind."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (each.asname or each.name.split(".")[0] for each in node.names)


def capable() -> set[Use]:
    """What `capabilities.read` asks for by name, and the classes that it asks of."""
    tree = ast.parse((ROOT / "deploy" / "engines" / "capabilities.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "has"]
    literal = [
        tuple(each.value for each in call.args if isinstance(each, ast.Constant))
        for call in calls
        if len(call.args) == 2
    ]
    found = {pair for pair in literal if len(pair) == 2}
    return found | {("", owner) for owner, *_ in literal}


def unknown(found: set[Use]) -> dict[Use, list[str]]:
    """What some version lacks and no capability guards, with those versions."""
    guarded = GUARDED | capable()
    lacking = {
        (owner, name): [
            version
            for version in VERSIONS
            if not has(version, owner, name) and (("", owner) not in guarded or has(version, "", owner))
        ]
        for owner, name in found - guarded
    }
    return {use: versions for use, versions in lacking.items() if versions}


def test_the_product_calls_what_every_version_has() -> None:
    found = {path.relative_to(ROOT): uses(path.read_text()) for path in FILES if path.is_file()}
    together = set().union(*found.values())
    assert {("", "Builder"), ("", "Runtime"), ("IExecutionContext", "execute_async_v3")} <= together
    wrong = {str(path): unknown(each) for path, each in found.items() if unknown(each)}
    assert wrong == {}


@pytest.mark.parametrize(
    ("code", "use"),
    [
        ("trt.BuilderFlag.STRICT_TYPES", ("BuilderFlag", "STRICT_TYPES")),
        ("trt.Refitters(log)", ("", "Refitters")),
        ("trt; builder.max_batch_size = 1", ("Builder", "max_batch_size")),
        ("trt; self._engine.get_binding_index('x')", ("ICudaEngine", "get_binding_index")),
        ("context.execute_async_v2([], 0)", ("IExecutionContext", "execute_async_v2")),
    ],
)
def test_a_name_that_a_version_lacks_is_found(code: str, use: Use) -> None:
    assert use in unknown(uses(code))


def test_a_capability_guards_what_it_names() -> None:
    code = "trt.BuilderFlag.FP16; trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED; trt.IProgressMonitor"
    assert len(uses(code)) == 5
    assert unknown(uses(code)) == {}


@pytest.mark.parametrize("version", VERSIONS)
def test_the_stand_in_has_the_names_and_arguments_of_the_table_only(version: str) -> None:
    found = TABLES[version]
    with playing(version) as trt:
        for name in (name for name in vars(trt) if not name.startswith("_")):
            assert name in found["names"], name
        for owner, names in found["classes"].items():
            cls: Any = getattr(trt, owner)
            public = {name for name in dir(cls) if not name.startswith("_")} - set(dir(bytearray))
            assert public <= set(names) | set(found["enums"].get(f"{owner}.Severity", ())), owner
            for name, entry in names.items():
                played = inspect.unwrap(getattr(cls, name, None)) if isinstance(entry, list) else None
                if inspect.isfunction(played) and played.__name__ != "refuse":
                    arguments = list(inspect.signature(played).parameters)
                    assert any(arguments[: len(each)] == each for each in entry), (owner, name)
        for name in set(found["enums"]) - {"ILogger.Severity"}:
            members = {each: int(member) for each, member in getattr(trt, name).__members__.items()}
            assert members == found["enums"][name]
        with pytest.raises(AttributeError, match="no attribute"):
            _ = trt.NoSuchThing


@pytest.mark.parametrize("version", VERSIONS)
def test_the_tables_are_those_of_the_real_wheels(version: str) -> None:
    folder = os.environ.get("TENSORRT_WHEELS")
    if not folder:
        pytest.skip("TENSORRT_WHEELS names no folder of TensorRT's wheels")
    wheels = sorted(Path(folder).glob(f"tensorrt*-{version}-cp*.whl"))
    if not wheels:
        pytest.skip(f"TENSORRT_WHEELS has no wheel of {version}")
    reasons = []
    for wheel in wheels:
        try:
            found = table(wheel)
        except UnusableError as error:
            reasons.append(str(error))
            continue
        assert text(found) == (API / f"{version}.json").read_text()
        return
    pytest.skip("; ".join(reasons))
