"""What the file beside a plan says, and when a plan is refused: no TensorRT, no GPU."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from slipway_runtime import manifest as m
from slipway_runtime import plan as p
from slipway_runtime.errors import BundleError, SessionError

HOPPER = p.Machine(tensorrt="10.16.1.11", cuda="13.0", driver="13.0", gpu="NVIDIA H100", compute_capability="9.0")
ONE = p.Profile(minimum=(1, 3, 64, 64), optimum=(1, 3, 64, 64), maximum=(1, 3, 64, 64))
MANY = p.Profile(minimum=(1, 3, 32, 32), optimum=(4, 3, 64, 96), maximum=(8, 3, 128, 128))
CONTENT = b"a plan"


def options(**fields: Any) -> p.Options:
    return p.Options(**{"precision": "fp16", "profiles": (MANY,), **fields})


def info(machine: p.Machine = HOPPER, plan: bytes = CONTENT, **fields: Any) -> p.PlanInfo:
    values: dict[str, Any] = {
        "key": "1" * 64,
        "plan_sha256": hashlib.sha256(plan).hexdigest(),
        "graph": "model.onnx",
        "graph_sha256": "2" * 64,
        "machine": machine,
        "options": options(),
        "inputs": (m.TensorSpec(name="image", dtype="float32", shape=("batch", 3, "height", "width")),),
        "outputs": (m.TensorSpec(name="scores", dtype="float32", shape=("batch", 4)),),
        "layers": {"fp16": 20, "fp32": 3},
        "build_seconds": 1.5,
    }
    return p.PlanInfo(**{**values, **fields})


def write(path: Path, said: p.PlanInfo, content: bytes = CONTENT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    p.sidecar(path).write_text(said.to_json(), encoding="utf-8")
    return path


def other(**fields: str) -> p.Machine:
    return HOPPER.model_copy(update=fields)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "engines" / "x.plan", info())
    assert p.read(path) == info()
    p.check(path, p.read(path), HOPPER)
    assert p.sidecar(path).name == "x.plan.json"


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("tensorrt", "10.16.1.12", r"built with TensorRT 10\.16\.1\.11, here is 10\.16\.1\.12"),
        ("tensorrt", "11.4.0.106", "here is 11.4.0.106"),
        ("tensorrt", "8.6.0", "here is 8.6.0"),
        ("gpu", "NVIDIA H200", r"built for NVIDIA H100 \(compute capability 9\.0\), here is NVIDIA H200 \(9\.0\)"),
        ("compute_capability", "8.0", r"built for .*9\.0\), here is NVIDIA H100 \(8\.0\)"),
    ],
)
def test_a_plan_of_another_machine_is_refused(tmp_path: Path, field: str, value: str, message: str) -> None:
    path = write(tmp_path / "x.plan", info())
    with pytest.raises(SessionError, match=message) as error:
        p.check(path, info(), other(**{field: value}))
    assert "make engine-cls|det|seg EXP=… PRECISION=fp16" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("field", "value"), [("driver", "13.9"), ("cuda", "12.8")])
def test_drivers_and_cuda_may_differ(tmp_path: Path, field: str, value: str) -> None:
    p.check(write(tmp_path / "x.plan", info()), info(), other(**{field: value}))


@pytest.mark.parametrize(
    ("here", "fits"),
    [
        ("10.16.1.11", True),
        ("10.16.1.12", True),
        ("10.17.0.1", True),
        ("10.16.0.9", False),
        ("10.9.0.34", False),  # 9 comes before 16
        ("11.0.0.0", False),
        ("8.6.1", False),
    ],
)
def test_a_version_compatible_plan_is_for_later_ones_of_its_major_version(here: str, fits: bool) -> None:
    said = info(options=options(version_compatible=True))
    assert (said.stranger(other(tensorrt=here)) is None) == fits


@pytest.mark.parametrize(
    ("level", "gpu", "capability", "fits"),
    [
        ("same", "NVIDIA H200", "9.0", True),
        ("same", "NVIDIA A100", "8.0", False),
        ("ampere+", "NVIDIA A100", "8.0", True),
        ("ampere+", "NVIDIA B200", "10.0", True),
        ("ampere+", "NVIDIA T4", "7.5", False),
        ("none", "NVIDIA H200", "9.0", False),
    ],
)
def test_hardware_compatible_plans(level: p.Hardware, gpu: str, capability: str, fits: bool) -> None:
    said = info(options=options(hardware_compatible=level))
    assert (said.stranger(other(gpu=gpu, compute_capability=capability)) is None) == fits


@pytest.mark.parametrize("content", [CONTENT[:-1], b"", b"A plan"])
def test_a_plan_that_was_cut_off_or_altered_is_refused(tmp_path: Path, content: bytes) -> None:
    path = write(tmp_path / "x.plan", info(), content)
    with pytest.raises(BundleError, match=r"altered or cut off .*x\.plan\.json says"):
        p.check(path, p.read(path), HOPPER)


def test_a_plan_that_is_not_there_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.plan", info())
    path.unlink()
    with pytest.raises(BundleError, match="cannot be read"):
        p.check(path, p.read(path), HOPPER)


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (lambda text: None, "cannot be read .*a plan without it is none"),
        (lambda text: "", "Invalid JSON"),
        (lambda text: text[: len(text) // 2], "Invalid JSON"),
        (lambda text: text.replace('"schema_version": 1', '"schema_version": 2'), "schema_version: Input should be 1"),
        (lambda text: text.replace('"9.0"', '"nine"'), "machine.compute_capability"),
        (lambda text: text.replace('"fp16",', '"bf16",'), "options.precision"),
        (lambda text: text.replace("1.5", "NaN"), "build_seconds"),
        (lambda text: text.replace('"key"', '"kay"'), "key: Field required"),
    ],
)
def test_a_missing_or_damaged_description_is_refused(
    tmp_path: Path, alter: Callable[[str], str | None], message: str
) -> None:
    path = write(tmp_path / "x.plan", info())
    beside = p.sidecar(path)
    text = alter(beside.read_text(encoding="utf-8"))
    beside.unlink() if text is None else beside.write_text(text, encoding="utf-8")
    with pytest.raises(BundleError, match=message) as error:
        p.read(path)
    assert "\n" not in str(error.value)


def test_a_description_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.plan", info())
    p.sidecar(path).write_bytes(b"\xff\xfe\xff")
    with pytest.raises(BundleError, match="cannot be read"):
        p.read(path)


@pytest.mark.parametrize(
    ("minimum", "optimum", "maximum"),
    [
        ((1, 3, 64, 64), (1, 3, 32, 64), (8, 3, 64, 64)),
        ((1, 3, 64, 64), (9, 3, 64, 64), (8, 3, 64, 64)),
        ((1, 3, 64), (1, 3, 64, 64), (1, 3, 64, 64)),
        ((0, 3, 64, 64), (1, 3, 64, 64), (1, 3, 64, 64)),
    ],
)
def test_a_profile_that_cannot_be(minimum: Any, optimum: Any, maximum: Any) -> None:
    with pytest.raises(ValidationError):
        p.Profile(minimum=minimum, optimum=optimum, maximum=maximum)


def test_what_a_profile_takes() -> None:
    assert MANY.takes((1, 3, 32, 32))
    assert MANY.takes((8, 3, 128, 128))
    for shape in ((9, 3, 64, 64), (1, 3, 31, 64), (1, 3, 64, 129), (1, 4, 64, 64), (3, 64, 64)):
        assert not MANY.takes(shape)
    assert ONE.fixed
    assert not MANY.fixed


def test_how_far_a_shape_is_from_the_optimum() -> None:
    assert MANY.distance((4, 3, 64, 96)) == 1
    assert MANY.distance((8, 3, 64, 96)) == 2 == MANY.distance((2, 3, 64, 96))
    assert MANY.distance((8, 3, 32, 96)) == 4  # one axis does not make up for another


def test_a_key_is_of_all_that_a_plan_depends_on() -> None:
    graph = "3" * 64
    base = p.key_of(graph, options(), HOPPER, 1)
    assert base == p.key_of(graph, options(), HOPPER, 1)
    changed = [
        p.key_of("4" * 64, options(), HOPPER, 1),
        p.key_of(graph, options(), HOPPER, 2),
        p.key_of(graph, options(precision="fp32"), HOPPER, 1),
        p.key_of(graph, options(profiles=(ONE,)), HOPPER, 1),
        p.key_of(graph, options(profiles=(MANY, ONE)), HOPPER, 1),
        p.key_of(graph, options(profiles=(ONE, MANY)), HOPPER, 1),
        p.key_of(graph, options(tf32=True), HOPPER, 1),
        p.key_of(graph, options(optimization_level=5), HOPPER, 1),
        p.key_of(graph, options(workspace_mib=64), HOPPER, 1),
        p.key_of(graph, options(version_compatible=True), HOPPER, 1),
        p.key_of(graph, options(hardware_compatible="same"), HOPPER, 1),
        p.key_of(graph, options(), other(tensorrt="10.16.1.12"), 1),
        p.key_of(graph, options(), other(cuda="13.1"), 1),
        p.key_of(graph, options(), other(gpu="NVIDIA H200"), 1),
        p.key_of(graph, options(), other(compute_capability="9.1"), 1),
    ]
    assert len({base, *changed}) == 1 + len(changed)
    assert p.key_of(graph, options(), other(driver="13.9"), 1) == base


def test_every_option_is_in_the_key() -> None:
    """A field that is added must be added to the test above."""
    assert set(p.Options.model_fields) == {
        "precision",
        "profiles",
        "tf32",
        "optimization_level",
        "workspace_mib",
        "version_compatible",
        "hardware_compatible",
    }


@pytest.fixture
def described(bundle: Path) -> m.Manifest:
    return m.read(bundle)


def of(described: m.Manifest, **fields: Any) -> p.PlanInfo:
    return info(graph_sha256=described.files["model.onnx"], **fields)


def test_the_newest_plan_for_this_machine_is_found(bundle: Path, described: m.Manifest) -> None:
    for age, name in enumerate(("new", "middle", "old")):
        path = write(p.path_of(bundle, "fp16", name * 6), of(described))
        os.utime(path, (1e9 - age, 1e9 - age))
    write(p.path_of(bundle, "fp32", "0" * 64), of(described, options=options(precision="fp32")))
    found, said = p.find(bundle, described, "fp16", HOPPER)
    assert found.name == "fp16-newnewnewnewnewn.plan"
    assert said.options.precision == "fp16"
    os.utime(p.path_of(bundle, "fp16", "old" * 6), (2e9, 2e9))
    assert p.find(bundle, described, "fp16", HOPPER)[0].name == "fp16-oldoldoldoldoldo.plan"


def test_why_no_plan_is_for_this_machine(bundle: Path, described: m.Manifest) -> None:
    write(bundle / "engines" / "a.plan", of(described, machine=other(tensorrt="8.6.0")))
    write(bundle / "engines" / "b.plan", of(described, machine=other(gpu="NVIDIA T4", compute_capability="7.5")))
    write(bundle / "engines" / "c.plan", info())  # of a graph that the bundle has no more
    write(bundle / "engines" / "d.plan", of(described, options=options(precision="int8")))
    with pytest.raises(SessionError) as error:
        p.find(bundle, described, "fp16", HOPPER)
    text = str(error.value)
    assert "a.plan was built with TensorRT 8.6.0, here is 10.16.1.11" in text
    assert "b.plan was built for NVIDIA T4" in text
    assert "c.plan was built from another graph" in text
    assert "d.plan" not in text
    assert text.endswith("build one with `make engine-cls EXP=tiny PRECISION=fp16`")


def test_a_plan_without_description_is_none(bundle: Path, described: m.Manifest) -> None:
    path = write(bundle / "engines" / "a.plan", of(described))
    p.sidecar(path).unlink()
    with pytest.raises(SessionError, match=r"\(a.plan was left without a description\); build one"):
        p.find(bundle, described, "fp16", HOPPER)


def test_the_command_names_the_bundle_that_a_plan_lies_in(bundle: Path, described: m.Manifest, tmp_path: Path) -> None:
    inside = write(bundle / "engines" / "a.plan", of(described))
    outside = write(tmp_path / "a.plan", of(described))
    assert p.command(inside, info()) == "build one with `make engine-cls EXP=tiny PRECISION=fp16`"
    assert p.command(outside, info()) == "build one with `make engine-cls|det|seg EXP=… PRECISION=fp16`"
    assert p.command(inside, info(), "BATCH=8").endswith("PRECISION=fp16 BATCH=8`")
