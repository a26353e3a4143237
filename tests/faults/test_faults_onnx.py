"""ONNX files."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny_bundles import build_graph, build_manifest, save, write_bundle

import slipway_runtime
from deploy.__main__ import main as deploy
from slipway_runtime import manifest as m
from slipway_runtime import model as models
from slipway_runtime.__main__ import main as predict
from slipway_runtime.sessions import onnxruntime as session
from train import cli
from train.experiment import Experiment

Change = Callable[[onnx.ModelProto], object]
#: What lies in a checkout without Git LFS where the graph should be.
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"
DATA = "model.onnx.data"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle", build_graph(), build_manifest())


@pytest.fixture
def red(tmp_path: Path) -> str:
    return str(save(tmp_path / "red.png", np.full((40, 30, 3), (0, 0, 255), np.uint8)))


@pytest.fixture
def refused(bundle: Path, red: str, capfd: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Predict with the bundle: it must end with this code, one line that says this, and nothing predicted."""

    def run(says: str, code: int = 3) -> None:
        capfd.readouterr()
        assert predict([str(bundle), red]) == code
        out, err = capfd.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert err.startswith("error: ")
        assert says in err

    return run


def rehash(bundle: Path, *names: str) -> None:
    """Let the manifest name the files as they are now, so that the next guard meets them."""
    raw = json.loads((bundle / m.FILE_NAME).read_text())
    changed = {name: hashlib.sha256((bundle / name).read_bytes()).hexdigest() for name in (m.GRAPH_NAME, *names)}
    (bundle / m.FILE_NAME).write_text(json.dumps({**raw, "files": {**raw["files"], **changed}}))


def alter(bundle: Path, change: Change) -> None:
    """Change a bundle's graph, hash included."""
    model = onnx.load(bundle / m.GRAPH_NAME)
    change(model)
    (bundle / m.GRAPH_NAME).write_bytes(model.SerializeToString())
    rehash(bundle)


def externalise(bundle: Path, location: str) -> bytes:
    """Move the first weight's content out of the graph; its bytes, to be put there."""
    tensor = onnx.load(bundle / m.GRAPH_NAME).graph.initializer[0]
    content = numpy_helper.to_array(tensor).tobytes()
    onnx.external_data_helper.set_external_data(tensor, location, 0, len(content))
    tensor.ClearField("raw_data")
    alter(bundle, lambda model: model.graph.initializer[0].CopyFrom(tensor))
    return content


@pytest.mark.fault(
    row="onnx-damaged",
    fault="a graph cut off, empty, or a Git-LFS pointer",
    sees="“content was altered”, with both hashes; “not a usable ONNX file” where the manifest names that content",
    code=3,
    intact="nothing is predicted",
)
@pytest.mark.parametrize("content", [300, 0, POINTER], ids=["cut", "empty", "pointer"])
def test_a_damaged_graph(bundle: Path, refused: Callable[..., None], content: int | bytes) -> None:
    graph = bundle / m.GRAPH_NAME
    graph.write_bytes(graph.read_bytes()[:content] if isinstance(content, int) else content)
    refused(f"{graph}: content was altered")
    rehash(bundle)
    refused(f"{graph}: not a usable ONNX file")


@pytest.mark.control(row="onnx-damaged")
def test_control_a_cut_that_no_parser_notices(bundle: Path) -> None:
    graph = bundle / m.GRAPH_NAME
    model = onnx.load(graph)
    del model.metadata_props[:]
    os.truncate(graph, len(model.SerializeToString()))
    assert not slipway_runtime.load(bundle, verify=False).session.metadata, "what the file says of itself is gone"


@pytest.mark.control(row="onnx-damaged")
def test_control_untranslated_it_is_a_traceback(bundle: Path, red: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (bundle / m.GRAPH_NAME).write_bytes(POINTER)
    rehash(bundle)
    monkeypatch.setattr(session, "_BAD_FILE", ())
    with pytest.raises(Exception, match="INVALID_PROTOBUF"):
        predict([str(bundle), red])


def place(bundle: Path, how: str) -> Path:
    """Let the graph's weights lie outside the bundle, reached in one of several ways; the file outside."""
    outside = bundle.parent / "secret.bin"
    location = {"..": "../secret.bin", "absolute": str(outside), "folder": "sub/secret.bin"}.get(how, DATA)
    outside.write_bytes(externalise(bundle, location))
    if how == "link":
        (bundle / DATA).symlink_to(outside)
    elif how == "folder":
        (bundle / "sub").symlink_to(outside.parent)
    elif how == "hard link":
        (bundle / DATA).hardlink_to(outside)
    return outside


@pytest.mark.skipif(onnxruntime.__version__.startswith("1.23."), reason="onnxruntime looks at this since 1.24")
@pytest.mark.fault(
    row="onnx-outside",
    fault="external data at ../secret.bin, at an absolute path, behind a symbolic link or a linked folder",
    sees="“not a usable ONNX file (External data path validation failed …)”",
    code=3,
    intact="nothing outside the bundle is read",
)
@pytest.mark.parametrize("how", ["..", "absolute", "link", "folder"])
def test_external_data_outside_the_bundle(bundle: Path, refused: Callable[..., None], how: str) -> None:
    place(bundle, how)
    refused("External data path")


@pytest.mark.control(row="onnx-outside")
@pytest.mark.parametrize("how", ["..", "absolute", "link", "folder"])
def test_control_the_path_followed_as_it_is_leads_outside(bundle: Path, how: str) -> None:
    outside = place(bundle, how)
    entries = onnx.load(bundle / m.GRAPH_NAME, load_external_data=False).graph.initializer[0].external_data
    assert (bundle / entries[0].value).samefile(outside)


@pytest.mark.fault(
    row="onnx-hard-link",
    fault="external data that is a hard link to a file outside, in `make verify` (ONNX Runtime cannot tell)",
    sees="“not a usable ONNX file (… it has multiple hard links, indicating a potential hardlink attack)”",
    code=3,
    intact="the bundle as it was",
)
def test_external_data_with_a_second_name(
    digits_experiment: Experiment, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    own = Experiment(digits_experiment.name, tmp_path)
    shutil.copytree(digits_experiment.root, own.root)
    place(own.bundle, "hard link")
    config = Path(__file__).parents[1] / "configs" / "cls" / "tiny_digits.py"
    capfd.readouterr()
    assert cli.run(deploy, ["verify", str(config), "--work", str(tmp_path)]) == 3
    err = capfd.readouterr().err
    assert err.startswith(f"error: {own.bundle / m.GRAPH_NAME}: not a usable ONNX file")
    assert "hard links" in err
    assert err.count("\n") == 1


@pytest.mark.control(row="onnx-hard-link")
def test_control_an_engine_alone_cannot_tell(bundle: Path, red: str) -> None:
    place(bundle, "hard link")
    assert predict([str(bundle), red]) == 0


@pytest.mark.fault(
    row="onnx-other-data",
    fault="external data that is not what the manifest names",
    sees="“model.onnx.data: content was altered”, with both hashes",
    code=3,
    intact="nothing is predicted",
)
def test_external_data_is_compared_too(bundle: Path, refused: Callable[..., None]) -> None:
    replaced(bundle)
    refused(f"{bundle / DATA}: content was altered")


@pytest.mark.control(row="onnx-other-data")
def test_control_unverified_it_predicts_something_else(bundle: Path, red: str) -> None:
    replaced(bundle)
    (result,) = slipway_runtime.load(bundle, verify=False)(red)
    assert result.names[0] != "red"


def replaced(bundle: Path) -> None:
    """External data with the classes' weights the other way round."""
    content = externalise(bundle, DATA)
    (bundle / DATA).write_bytes(content)
    rehash(bundle, DATA)
    (bundle / DATA).write_bytes(np.frombuffer(content, np.float32).reshape(3, 4)[:, ::-1].tobytes())


def huge_graph(rows: int) -> onnx.ModelProto:
    """The tiny classifier, plus the last of `rows` rows of an external table on its logits."""
    model = build_graph()
    del model.graph.node[3:]
    model.graph.node[2].output[0] = "plain"
    model.graph.node.append(helper.make_node("Gather", ["table", "last"], ["row"], axis=0))
    model.graph.node.append(helper.make_node("Add", ["plain", "row"], ["logits"]))
    model.graph.node.append(helper.make_node("Softmax", ["logits"], ["scores"]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([rows - 1]), "last"))
    table = TensorProto(name="table", data_type=TensorProto.FLOAT, dims=[rows, 4])
    table.data_location = TensorProto.EXTERNAL
    for key, value in (("location", DATA), ("offset", "0"), ("length", str(rows * 16))):
        table.external_data.add(key=key, value=value)
    model.graph.initializer.append(table)
    return model


ROWS = (2 << 30) // 16 + 4096
_GIB = 1 << 30


def _room() -> str:
    """What this machine lacks for a graph of more than 2 GiB, if anything."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) / (1 << 20)
    return f"{free:.1f} GiB of memory are free, 5 are needed" if free < 5 else ""


@pytest.mark.skipif(bool(_room()), reason=_room())
@pytest.mark.fault(
    row="onnx-large",
    fault="a graph of more than 2 GiB, its weights in model.onnx.data",
    sees="a prediction, from the last row of the weights",
    code=0,
    intact="all of it; both files are compared with the manifest",
)
def test_more_than_two_gibibytes_work(tmp_path: Path, red: str, capfd: pytest.CaptureFixture[str]) -> None:
    large = write_bundle(tmp_path / "large", huge_graph(ROWS), build_manifest())
    with (large / DATA).open("wb") as file:  # sparse: the last row alone takes space
        file.seek((ROWS - 1) * 16)
        file.write(np.array([0, 50, 0, 0], np.float32).tobytes())
    assert (large / DATA).stat().st_size > 2 * _GIB
    raw = json.loads((large / m.FILE_NAME).read_text())
    raw["files"][DATA] = m.sha256(large / DATA)
    (large / m.FILE_NAME).write_text(json.dumps(raw))
    assert predict([str(large), red]) == 0
    assert capfd.readouterr().out.split("  ")[1].startswith("green (1.0")


@pytest.mark.control(row="onnx-large")
def test_control_without_its_end_it_is_refused(tmp_path: Path, red: str, capfd: pytest.CaptureFixture[str]) -> None:
    large = write_bundle(tmp_path / "large", huge_graph(ROWS), build_manifest())
    (large / DATA).touch()
    os.truncate(large / DATA, ROWS * 16 - 4096)
    assert predict([str(large), red]) == 3
    assert "not a usable ONNX file" in capfd.readouterr().err


def custom(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "mmcv"
    model.graph.node[0].op_type = "MMCVModulatedDeformConv2d"
    model.opset_import.append(helper.make_opsetid("mmcv", 1))


def newer_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = onnx.defs.onnx_opset_version() + 1


def newer_ir(model: onnx.ModelProto) -> None:
    model.ir_version = 99


def renamed(model: onnx.ModelProto) -> None:
    model.graph.node[-1].output[0] = model.graph.output[0].name = "probabilities"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(
            custom,
            "mmcv:MMCVModulatedDeformConv2d",
            marks=pytest.mark.fault(
                row="onnx-foreign",
                fault="a custom operator",
                sees="“not a usable ONNX file (… mmcv:MMCVModulatedDeformConv2d(-1) is not a registered function/op)”",
                code=3,
                intact="nothing is predicted",
            ),
        ),
        pytest.param(
            newer_opset,
            "Current official support for domain ai.onnx is till opset",
            marks=pytest.mark.fault(
                row="onnx-foreign",
                fault="an opset newer than the engine's",
                sees="“Opset … is under development …. Current official support for domain ai.onnx is till opset …”",
                code=3,
                intact="nothing is predicted",
            ),
        ),
        pytest.param(
            newer_ir,
            "Unsupported model IR version: 99, max supported IR version",
            marks=pytest.mark.fault(
                row="onnx-foreign",
                fault="an IR version newer than the engine's",
                sees="“Unsupported model IR version: 99, max supported IR version: …”",
                code=3,
                intact="nothing is predicted",
            ),
        ),
        pytest.param(
            renamed,
            "the manifest's outputs are scores float32 (batch, 4), the graph's are probabilities",
            marks=pytest.mark.fault(
                row="onnx-renamed",
                fault="outputs of other names than the manifest's",
                sees="“the manifest's outputs are scores …, the graph's are probabilities …; export again”",
                code=3,
                intact="nothing is predicted",
            ),
        ),
    ],
)
def test_graphs_of_somebody_else(bundle: Path, refused: Callable[..., None], change: Change, says: str) -> None:
    alter(bundle, change)
    refused(says)


@pytest.mark.control(row="onnx-foreign")
@pytest.mark.parametrize("change", [custom, newer_opset, newer_ir])
def test_control_untranslated_a_foreign_graph_is_a_traceback(
    bundle: Path, red: str, change: Change, monkeypatch: pytest.MonkeyPatch
) -> None:
    alter(bundle, change)
    monkeypatch.setattr(session, "_BAD_FILE", ())
    with pytest.raises(Exception, match="Load model from"):
        predict([str(bundle), red])


@pytest.mark.control(row="onnx-renamed")
def test_control_uncompared_names_meet_the_task(bundle: Path, red: str, monkeypatch: pytest.MonkeyPatch) -> None:
    alter(bundle, renamed)
    monkeypatch.setattr(models, "_compare", lambda *specs, **options: None)
    with pytest.raises(KeyError, match="scores"):
        predict([str(bundle), red])
