"""`python -m deploy.engines.building.worker SPEC ANSWER`: the process that builds one engine.

TensorRT may crash, run out of memory or be killed: that must end this process only. What it cannot do is said in the last
line of stderr, with the exit code of its kind.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploy.engines import capabilities
from deploy.engines.building import network, timing
from deploy.engines.building.log import logger, monitor
from deploy.engines.building.spec import Answer, Spec
from slipway_runtime import cuda
from train import cli
from train.errors import BackendError
from train.files import write_atomic

#: Of Linux's prctl(2): the signal that a process gets when the one that started it ends.
_PR_SET_PDEATHSIG = 1


def main(argv: Sequence[str] | None = None) -> int:
    """Build what the spec says.

    Raises:
        BackendError: no TensorRT or GPU, a node that TensorRT has no importer for, no memory, no way to build.
    """
    spec_file, answer_file = map(Path, argv or sys.argv[1:])
    spec = Spec.model_validate_json(spec_file.read_text())
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != spec.parent:
        raise BackendError("nobody waits for this build any more")
    write_atomic(answer_file, build(cuda.tensorrt(), spec).model_dump_json())
    return 0


def build(trt: Any, spec: Spec) -> Answer:
    """Parse, build, write the plan and read what is in it.

    Raises:
        BackendError: see `main`.
    """
    able = capabilities.read(trt)
    log = logger(trt)
    try:
        builder = trt.Builder(log)
    except (TypeError, RuntimeError) as error:
        raise BackendError(f"TensorRT {trt.__version__} cannot start a builder ({log.said() or error}); docs/gpu.md")
    # The parser makes TensorRT's own plugins of RoiAlign and the like; only 8.6's registers them by itself.
    trt.init_libnvinfer_plugins(log, "")
    parsed, keep = network.parse(trt, able, builder, log, spec)
    config = network.configure(trt, able, builder, parsed, spec)
    if able.progress_monitor:
        config.progress_monitor = monitor(trt)
    known, state = timing.load(config, spec.timing_cache)
    began = time.monotonic()
    plan = builder.build_serialized_network(parsed, config)
    seconds = time.monotonic() - began
    del keep
    if plan is None:
        raise BackendError(network.failure(spec.options, log))
    with spec.plan.open("wb") as file:
        file.write(plan)
    timing.save(config, known, spec.timing_cache)
    return Answer(inspector=_inspect(trt, log, plan, spec), build_seconds=seconds, timing_cache=state)


def _inspect(trt: Any, log: Any, plan: Any, spec: Spec) -> str:
    runtime = trt.Runtime(log)
    if spec.options.version_compatible:
        runtime.engine_host_code_allowed = True
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        raise BackendError(f"TensorRT {trt.__version__} does not load the plan that it just built ({log.said()})")
    text: str = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return text


if __name__ == "__main__":
    sys.exit(cli.run(main))
