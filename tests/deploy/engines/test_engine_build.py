"""Engines, built for a stand-in of TensorRT 8.6, 10 and 11: what is kept, found again, refused and reported."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest
from trt_fixtures import playing

from deploy.__main__ import main
from deploy.engines import graphs
from deploy.engines.building import network, process
from slipway_runtime import plan as plans
from slipway_runtime.errors import BundleError
from slipway_runtime.plan import Machine, Options, Profile
from train.errors import BackendError, InputError, UsageError, VerificationError
from train.experiment import Experiment


def files(tiny: Experiment) -> list[str]:
    folder = tiny.bundle / plans.FOLDER
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock") if folder.is_dir() else []


def test_built_described_and_found_again(tensorrt_stand_in: Any, tiny: Experiment, verb_in_child: Any) -> None:
    (first,) = verb_in_child()["engines"]
    path = Path(first["path"])
    info = plans.read(path)
    assert first["built"]
    assert files(tiny) == [path.name, f"{path.name}.json"]
    assert info.key == first["key"]
    assert path.name == f"fp32-{info.key[:16]}.plan"
    assert info.machine.tensorrt == tensorrt_stand_in.__version__
    assert info.graph == "model.onnx"
    assert set(info.layers) == {"fp32"}
    assert info.options.profiles[0].maximum == (8, 3, 16, 16)
    assert not info.options.tf32
    written = path.stat().st_mtime_ns
    again = verb_in_child()
    assert not again["engines"][0]["built"]
    assert "current: " in again["stderr"]
    assert "next: make bench EXP=cls/tiny DEVICE=cuda BENCH=configs/bench/cuda.yaml" in again["stderr"]
    assert path.stat().st_mtime_ns == written
    assert verb_in_child("--force")["engines"][0]["built"]
    assert path.stat().st_mtime_ns != written


def test_precisions_are_what_their_graphs_say(tensorrt_stand_in: Any, tiny: Experiment, verb: Any) -> None:
    full, half = verb("--precision", "fp32", "fp16")["engines"]
    assert "fp16" not in full["layers"]
    assert half["layers"]["fp16"] >= 1
    assert half["layers"]["fp32"] >= 1
    assert len(files(tiny)) == 4


def test_control_without_holding_layers_tensorrt_8_makes_all_of_them_half(
    verb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "_hold", lambda *_: None)
    with playing("8.6.0"):
        (half,) = verb("--precision", "fp16")["engines"]
    assert set(half["layers"]) == {"fp16"}


@pytest.mark.parametrize(("asked", "pretended"), [("fp16", "float32"), ("fp32", "float16")])
def test_control_another_precision_than_asked_for_is_not_kept(
    tensorrt_stand_in: Any,
    tiny: Experiment,
    verb: Any,
    monkeypatch: pytest.MonkeyPatch,
    asked: str,
    pretended: str,
) -> None:
    monkeypatch.setenv("STAND_IN_LAYERS", pretended)
    with pytest.raises(VerificationError, match=f"{asked} was asked for.*layers \\("):
        verb("--precision", asked)
    assert files(tiny) == []


def test_a_refused_node_is_named(
    tensorrt_stand_in: Any, tiny: Experiment, verb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN_REFUSED", "Gemm,Flatten")
    with pytest.raises(BackendError) as raised:
        verb()
    text = str(raised.value)
    assert text.startswith(f"TensorRT {tensorrt_stand_in.__version__} refuses 2 nodes of the graph: ")
    assert "Gemm 'logits' (" in text
    assert "Flatten 'flat' (" in text
    assert "needs a rewrite in deploy/rewrites or deploy/engines/graphs, or a newer TensorRT" in text
    assert "\n" not in text
    assert files(tiny) == []


@pytest.mark.parametrize(("options", "named"), [((), "all that the GPU has free"), (("--workspace", "64"), "64 MiB")])
def test_out_of_memory(
    tensorrt_stand_in: Any,
    tiny: Experiment,
    verb: Any,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    named: str,
) -> None:
    monkeypatch.setenv("STAND_IN_BUILD_FAILS", "memory")
    with pytest.raises(BackendError, match=f"ran out of memory \\(workspace: {named}\\): .*smaller --batch or --size"):
        verb(*options)
    assert files(tiny) == []


def test_a_build_that_fails_says_why(tiny: Experiment, verb: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN_BUILD_FAILS", "Could not find any implementation for node conv1")
    with playing(), pytest.raises(BackendError, match=r"could not build the engine: .*implementation for node conv1"):
        verb()


def test_timings_are_kept_from_build_to_build(
    tensorrt_stand_in: Any, tiny: Experiment, verb: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def entries() -> int:
        (file,) = (tiny.work / ".cache" / "tensorrt").iterdir()
        assert tensorrt_stand_in.__version__ in file.name
        return len(json.loads(file.read_bytes()[32:])["timing"])

    verb()
    assert entries() == 1
    verb("--force")
    assert entries() == 2
    (file,) = (tiny.work / ".cache" / "tensorrt").iterdir()
    for damage in (file.read_bytes()[:-3], b"", os.urandom(100)):
        file.write_bytes(damage)
        assert "was damaged, or of another GPU; every kernel was timed anew" in verb("--force")["stderr"]
        assert entries() == 1


def test_progress_is_shown(tensorrt_stand_in: Any, verb_in_child: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_EVERY", 0.3)
    monkeypatch.setenv("STAND_IN_BUILD_SECONDS", "0.7")
    said = verb_in_child()["stderr"]
    # TensorRT 8 has no progress monitor.
    assert ("  building, " if tensorrt_stand_in.__version__[0] == "8" else "  Building Engine 0/4") in said


def test_plans_for_others(tensorrt_stand_in: Any, tiny: Experiment, verb: Any) -> None:
    (built,) = verb("--version-compatible", "--hardware-compatible", "ampere+")["engines"]
    assert built["options"]["version_compatible"]
    assert built["options"]["hardware_compatible"] == "ampere+"
    if tensorrt_stand_in.__version__[0] != "8":
        assert verb("--hardware-compatible", "same")["engines"][0]["built"]
        return
    with pytest.raises(
        BackendError, match=r"has no hardware compatibility SAME_COMPUTE_CAPABILITY, it has none, ampere\+"
    ):
        verb("--hardware-compatible", "same")


def test_several_profiles(tiny: Experiment, verb: Any) -> None:
    with playing():
        (built,) = verb("--size", "16x16", "--size", "16x16:32x32:64x64", "--batch", "2")["engines"]
    assert [each["maximum"] for each in built["options"]["profiles"]] == [[2, 3, 16, 16], [2, 3, 64, 64]]


SHAPE = (1, 3, 16, 16)
ONE = Profile(minimum=SHAPE, optimum=SHAPE, maximum=SHAPE)
MORE = Profile(minimum=SHAPE, optimum=SHAPE, maximum=(8, *SHAPE[1:]))
MACHINE = Machine(tensorrt="10.1.0", cuda="13.0", driver="13.0", gpu="NVIDIA L4", compute_capability="8.9")


def test_everything_that_an_engine_depends_on_changes_its_key() -> None:
    plain = Options(precision="fp32", profiles=(ONE,))
    options = [
        plain,
        *(
            plain.model_copy(update=change)
            for change in (
                {"precision": "fp16"},
                {"profiles": (MORE,)},
                {"profiles": (ONE, MORE)},
                {"tf32": True},
                {"optimization_level": 5},
                {"workspace_mib": 64},
                {"version_compatible": True},
                {"hardware_compatible": "same"},
            )
        ),
    ]
    others = ({"tensorrt": "10.2.0"}, {"cuda": "12.9"}, {"gpu": "NVIDIA L40S"}, {"compute_capability": "9.0"})
    machines = [MACHINE, *(MACHINE.model_copy(update=change) for change in others)]
    keys = [plans.key_of("0" * 64, each, MACHINE, 1) for each in options]
    keys += [plans.key_of("0" * 64, plain, each, 1) for each in machines[1:]]
    keys += [plans.key_of("1" * 64, plain, MACHINE, 1), plans.key_of("0" * 64, plain, MACHINE, 2)]
    assert len(set(keys)) == len(keys) == 15
    assert plans.key_of("0" * 64, plain, MACHINE.model_copy(update={"driver": "13.5"}), 1) == keys[0]


def test_other_engines_of_a_bundle_stay(tiny: Experiment, verb: Any) -> None:
    with playing():
        verb()
        verb("--level", "1")
        verb("--tf32")
    with playing("8.6.0"):
        verb()
    assert len(files(tiny)) == 8


def test_numbers_agree_with_the_float32_graph(
    digits_experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = Experiment(digits_experiment.name, tmp_path)
    shutil.copytree(digits_experiment.root, copy.root, ignore=shutil.ignore_patterns("bench", "engines"))
    config = str(Path(__file__).parents[2] / "configs" / "cls" / "tiny_digits.py")
    with playing():
        assert main(["engine", config, "--work", str(tmp_path)]) == 0
        assert "against fp32 on ONNX Runtime, 4 images, max |Δ|: output 0.0e+00" in capsys.readouterr().err

    def wrong(*arguments: Any) -> onnx.ModelProto:
        model = prepare(*arguments)
        weight = next(each for each in model.graph.initializer if len(each.dims) == 4)
        changed = onnx.numpy_helper.to_array(weight) * 1.01
        weight.CopyFrom(onnx.numpy_helper.from_array(changed, weight.name))
        return model

    prepare = graphs.prepare
    monkeypatch.setattr(graphs, "prepare", wrong)
    with playing():
        try:
            main(["engine", config, "--work", str(tmp_path), "--force"])
        except VerificationError as error:
            text = str(error)
    assert text.startswith("the engine does not compute what the graph does: output 'output': max |Δ| ")
    # The engine of before is still there.
    assert len(files(copy)) == 2


def test_what_is_missing_is_said(tiny: Experiment, verb: Any, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="no graph in int8; make one with `make export-cls EXP=cls/tiny PRECISION=int8`"
    ):
        verb("--precision", "int8")
    (tiny.bundle / "model.fp16.onnx").write_bytes(b"other")
    with pytest.raises(BundleError, match=r"model\.fp16\.onnx"):
        verb("--precision", "fp16")
    with pytest.raises(UsageError, match="--workspace 0: expected MiB"):
        verb("--workspace", "0")
    with pytest.raises(BundleError, match="not a bundle's manifest"):
        main(["engine", str(tmp_path / "cls" / "tiny.py"), "--work", str(tmp_path / "nowhere")])


def test_without_a_gpu(verb: Any, tiny: Experiment, monkeypatch: pytest.MonkeyPatch) -> None:
    with playing():
        monkeypatch.setenv("STAND_IN_GPUS", "0")
        with pytest.raises(
            BackendError, match=r"with TensorRT and an NVIDIA GPU: .*; docs/gpu.md says what to install"
        ):
            verb()
    assert files(tiny) == []
