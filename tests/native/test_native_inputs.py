"""The graph's input in every data type that images can have, the arrays of `--inputs`, and the cache of optimised graphs."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from tiny_bundles import build_graph, build_manifest, save, write_bundle

import slipway_runtime
from slipway_runtime import manifest as m
from slipway_runtime.errors import VerificationError

Infer = Callable[..., "subprocess.CompletedProcess[str]"]

KINDS = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "uint8": TensorProto.UINT8,
    "int8": TensorProto.INT8,
}
#: Height and width; the graph's scores are the values of its input.
SIZE = (6, 7)
CLASSES = tuple(f"v{i}" for i in range(3 * SIZE[0] * SIZE[1]))


def echo(folder: Path, dtype: str, mean: float, std: float, batch: Any = "batch", kind: int | None = None) -> Path:
    """A bundle whose scores are its input's values, cast back to float32."""
    shape = (batch, 3, *SIZE)
    nodes = [
        helper.make_node("Flatten", ["image"], ["flat"]),
        helper.make_node("Cast", ["flat"], ["scores"], to=TensorProto.FLOAT),
    ]
    inputs = [helper.make_tensor_value_info("image", kind or KINDS[dtype], shape)]
    outputs = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, (batch, len(CLASSES)))]
    graph = helper.make_graph(nodes, "echo", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    manifest = build_manifest(
        classes=CLASSES,
        inputs=(m.TensorSpec(name="image", dtype=dtype, shape=shape),),
        outputs=(m.TensorSpec(name="scores", dtype="float32", shape=(batch, len(CLASSES))),),
        preprocess=(m.Decode(), m.Normalize(mean=(mean,), std=(std,), reverse_channels=True)),
        postprocess=m.ClassificationOutput(topk=len(CLASSES)),
    )
    return write_bundle(folder, model, manifest)


def values(row: str | dict[str, Any]) -> np.ndarray:
    """The scores of a row, in the classes' order."""
    top = (json.loads(row) if isinstance(row, str) else row)["top"]
    return np.array([entry["score"] for entry in sorted(top, key=lambda entry: entry["label"])], np.float32)


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    random = np.random.default_rng(1)
    ends = np.resize(np.array([0, 1, 127, 128, 129, 254, 255], np.uint8), (*SIZE, 3))
    arrays = [ends, *random.integers(0, 256, (4, *SIZE, 3), np.uint8)]
    return [save(tmp_path / f"{index}.png", array) for index, array in enumerate(arrays)]


#: Halves, which round to even; more than integers hold; more than float16 counts by ones; float16's subnormal numbers;
#: numbers that round up to the next power of two.
SCALES = [(0, 1), (0.5, 1), (127.5, 1), (127.5, 127.5), (100.5, 0.25), (128, 0.004), (120, 3e6), (1e-3, 1.00048828125)]


@pytest.mark.parametrize(("mean", "std"), SCALES)
@pytest.mark.parametrize("dtype", KINDS)
def test_inputs_are_rounded_as_numpy_does(
    tmp_path: Path, images: list[Path], sanitized: Infer, dtype: str, mean: float, std: float
) -> None:
    bundle = echo(tmp_path / "bundle", dtype, mean, std)
    model = slipway_runtime.load(bundle)
    arrays = np.stack([model.preprocess(path).array for path in images])
    if dtype in ("uint8", "int8"):
        limits = np.iinfo(dtype)
        cast = np.clip(np.rint(arrays), limits.min, limits.max).astype(dtype)
    else:
        cast = arrays.astype(dtype)
    engine = onnxruntime.InferenceSession(bundle / m.GRAPH_NAME, providers=["CPUExecutionProvider"])
    (expected,) = engine.run(["scores"], {"image": cast})
    assert len(np.unique(expected)) > 1 or dtype in ("uint8", "int8"), "the control: these numbers differ"
    done = sanitized(bundle, *images, "--json", "--batch", 2)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal([values(row) for row in done.stdout.splitlines()], expected)
    np.testing.assert_array_equal([values(result.to_dict()) for result in model(images, 2)], expected)


@pytest.mark.parametrize("dtype", KINDS)
def test_a_fixed_batch_is_filled_up(tmp_path: Path, images: list[Path], sanitized: Infer, dtype: str) -> None:
    one = sanitized(echo(tmp_path / "one", dtype, 0.5, 2), *images, "--json")
    three = sanitized(echo(tmp_path / "three", dtype, 0.5, 2, batch=3), *images, "--json")
    assert (one.returncode, three.returncode) == (0, 0)
    assert three.stdout == one.stdout


def test_what_is_too_large_for_float16_is_no_number(tmp_path: Path, images: list[Path], sanitized: Infer) -> None:
    bundle = echo(tmp_path / "bundle", "float16", 0, 0.001)
    done = sanitized(bundle, images[0])
    with pytest.raises(VerificationError) as error:
        slipway_runtime.load(bundle)(images[0])
    assert done.returncode == error.value.exit_code == 5
    assert "no finite numbers" in done.stderr


@pytest.mark.parametrize(
    ("dtype", "kind"), [("int32", TensorProto.INT32), ("int64", TensorProto.INT64), ("bool", TensorProto.BOOL)]
)
def test_images_are_never_of_other_data_types(
    tmp_path: Path, images: list[Path], sanitized: Infer, dtype: str, kind: int
) -> None:
    bundle = echo(tmp_path / "bundle", dtype, 0, 1, kind=kind)
    done = sanitized(bundle, images[0])
    assert (done.returncode, done.stdout) == (4, "")
    assert f"input 'image' is {dtype}, images can be float32, float16, uint8 or int8" in done.stderr


def test_inputs_are_written_as_numpy_reads_them(tmp_path: Path, images: list[Path], sanitized: Infer) -> None:
    bundle = write_bundle(tmp_path / "bundle", build_graph(), build_manifest())
    assert sanitized(bundle, *images, "--inputs", tmp_path / "inputs").returncode == 0
    model = slipway_runtime.load(bundle)
    for path in images:
        found = np.load(tmp_path / "inputs" / f"{path.name}.npy")
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, model.preprocess(path).array)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle", build_graph(), build_manifest())


def kept(cache: Path) -> tuple[Path, Path]:
    """The one graph that is kept, and its hash; nothing else may lie there."""
    graph, checksum = sorted(cache.iterdir())
    assert checksum.name == f"{graph.name}.sha256"
    return graph, checksum


def test_an_optimised_graph_is_kept_and_used(
    tmp_path: Path, bundle: Path, images: list[Path], sanitized: Infer
) -> None:
    plain = sanitized(bundle, *images, "--json")
    cache = tmp_path / "deeper" / "cache"
    assert sanitized(bundle, *images, "--json", "--cache", cache).stdout == plain.stdout
    graph, checksum = kept(cache)
    assert onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    made = graph.stat().st_mtime_ns
    assert sanitized(bundle, *images, "--json", "--cache", cache).stdout == plain.stdout
    assert graph.stat().st_mtime_ns == made
    # The control: it is this file that is run the second time, and not the bundle's.
    other = write_bundle(tmp_path / "other", build_graph(np.ones((3, 4), np.float32)), build_manifest())
    assert sanitized(other, *images, "--cache", tmp_path / "elsewhere").returncode == 0
    graph.write_bytes(kept(tmp_path / "elsewhere")[0].read_bytes())
    checksum.write_bytes(kept(tmp_path / "elsewhere")[1].read_bytes())
    assert sanitized(bundle, *images, "--json", "--cache", cache).stdout != plain.stdout


@pytest.mark.parametrize("how", ["altered", "empty", "no graph", "no hash", "an empty hash", "another hash"])
def test_a_damaged_entry_is_made_anew(
    tmp_path: Path, bundle: Path, images: list[Path], sanitized: Infer, how: str
) -> None:
    cache = tmp_path / "cache"
    first = sanitized(bundle, *images, "--json", "--cache", cache)
    graph, checksum = kept(cache)
    intact = graph.read_bytes()
    if how == "altered":
        graph.write_bytes(intact.replace(b"weight", b"wei\0ht"))
    elif how == "empty":
        graph.write_bytes(b"")
    elif how == "no graph":
        graph.unlink()
    elif how == "no hash":
        checksum.unlink()
    else:
        checksum.write_text("" if how == "an empty hash" else "0" * 64)
    done = sanitized(bundle, *images, "--json", "--cache", cache)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", first.stdout)
    kept(cache)
    assert graph.read_bytes() == intact
    assert len(checksum.read_text().strip()) == 64


def test_runs_at_the_same_time_share_a_cache(
    tmp_path: Path, bundle: Path, images: list[Path], sanitized_build: Path
) -> None:
    command = [sanitized_build / "ort_infer", bundle, images[0], "--cache", tmp_path / "cache"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
    results = [(*process.communicate(timeout=60), process.returncode) for process in processes]
    assert len(set(results)) == 1, results
    assert results[0][1:] == (b"", 0)
    kept(tmp_path / "cache")


@pytest.mark.parametrize("place", ["taken", "/proc/nowhere"])
def test_a_cache_that_cannot_be_written_to(
    tmp_path: Path, bundle: Path, images: list[Path], sanitized: Infer, place: str
) -> None:
    (tmp_path / "taken").write_text("a file where the folder should be")
    done = sanitized(bundle, images[0], "--cache", tmp_path / place)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith(f"error: --cache {tmp_path / place}: cannot be written to")


def test_nothing_is_kept_of_a_graph_that_cannot_be_opened(
    tmp_path: Path, bundle: Path, images: list[Path], sanitized: Infer
) -> None:
    model = build_graph()
    model.graph.node[0].op_type = "Nonsense"
    broken = write_bundle(tmp_path / "broken", model, build_manifest())
    assert sanitized(broken, images[0], "--cache", tmp_path / "cache").returncode == 3
    assert list((tmp_path / "cache").iterdir()) == []
