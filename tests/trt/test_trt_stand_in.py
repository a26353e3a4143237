"""The stand-in of TensorRT itself: what it computes, and what it refuses as the real one does."""

from pathlib import Path

from trt_fixtures import graph, write_plan

from slipway_runtime import cuda
from slipway_runtime import plan as plans


def test_plan_and_sidecar(tensorrt_stand_in, tmp_path: Path) -> None:
    path = write_plan(tensorrt_stand_in, graph(), tmp_path / "engines" / "fp32-0.plan")
    info = plans.read(path)
    plans.check(path, info, cuda.machine())
    assert info.machine.tensorrt == tensorrt_stand_in.__version__
    engine = tensorrt_stand_in.Runtime(tensorrt_stand_in.Logger()).deserialize_cuda_engine(path.read_bytes())
    assert [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)] == ["x", "y", "k"]
