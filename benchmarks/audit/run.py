"""Audits experiments, one fresh process a backend and precision, and leaves `work/<experiment>/bench/audit.json`."""

import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from benchmarks import backends, exported, native
from benchmarks.audit import Audit, Spec
from benchmarks.matrix import Matrix, Precision
from train import child
from train.cli import say
from train.errors import BackendError
from train.files import write_atomic
from train.machine import available_cores

FILE_NAME = "audit.json"
#: Different inputs that take turns, at most: every one is looked at.
INPUTS = 4
_PROGRAM = "ort_infer"

Engine = tuple[str, Precision]


@dataclass(frozen=True)
class Request:
    """What the command line asks for. `engines`: empty for those of the matrix, and `ort_infer` where it is built."""

    experiments: tuple[str, ...]
    matrix: Matrix
    engines: tuple[Engine, ...] = ()
    work: Path = Path("work")
    device: str = "cpu"


def run(request: Request) -> dict[str, list[Audit]]:
    """Audit every backend of every experiment, and write what was found.

    Raises:
        UsageError, InputError, BundleError: see `exported.read` and `backends.check`. Nothing was audited then.
    """
    engines = request.engines or _default(request.matrix)
    for name, precision in engines:
        backends.check(name, precision)
    subjects = {name: exported.read(request.work, name) for name in request.experiments}
    made: dict[str, list[Audit]] = {}
    for subject in subjects.values():
        name = subject.experiment.name
        made[name] = []
        for number, engine in enumerate(engines, start=1):
            say(f"[{number}/{len(engines)}] {name} {' '.join(engine)} …")
            made[name].append(_audit(_spec(request, name, engine), request.matrix.cell_timeout_s))
        found = {
            "experiment": name,
            "device": request.device,
            "bundle_sha256": subject.bundle_sha256,
            "audits": [each.model_dump(mode="json") for each in made[name]],
        }
        write_atomic(subject.experiment.bench / FILE_NAME, json.dumps(found, indent=1) + "\n")
    return made


def _default(matrix: Matrix) -> list[Engine]:
    engines = list(matrix.engines)
    try:
        native.find()
    except BackendError:
        return engines
    return engines if any(name == _PROGRAM for name, _ in engines) else [*engines, (_PROGRAM, "fp32")]


def _spec(request: Request, experiment: str, engine: Engine) -> Spec:
    matrix = request.matrix
    return Spec(
        work=request.work.resolve(),
        experiment=experiment,
        backend=engine[0],
        precision=engine[1],
        device=request.device,
        boundaries=matrix.boundaries,
        inputs=min(matrix.inputs, INPUTS),
        threads=matrix.threads or available_cores(),
        seed=matrix.seed,
        timer=matrix.timer,
    )


def _audit(spec: Spec, timeout_s: float) -> Audit:
    """Audit in a fresh process. An error, a crash or a timeout of it is an audit that failed, with a one-line reason."""
    with tempfile.TemporaryDirectory(prefix="audit-") as folder:
        spec_file, audit_file = Path(folder) / "spec.json", Path(folder) / FILE_NAME
        spec_file.write_text(spec.model_dump_json())
        command = [sys.executable, "-m", "benchmarks.audit", str(spec_file), str(audit_file)]
        ended = child.run(command, timeout_s, env={"OMP_NUM_THREADS": str(spec.threads)})
        reason = ended.reason(f"cell_timeout_s = {timeout_s:g}")
        if not ended.expired:
            try:
                return Audit.model_validate_json(audit_file.read_text())
            except (OSError, ValidationError):
                reason = reason or ended.said or "the process ended with 0"
    return Audit(backend=spec.backend, precision=spec.precision, status="failed", reason=reason)
