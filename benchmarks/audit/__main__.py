"""Audits one backend in a process of its own: `python -m benchmarks.audit SPEC.json AUDIT.json`."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2

from benchmarks import backends, exported
from benchmarks.audit import Audit, Finding, Spec, answers, caching, program, synchronisation, timer
from benchmarks.inputs import Inputs, choose
from benchmarks.native import Program
from slipway_runtime import Model, load
from slipway_runtime.errors import SessionError
from train import cli, tasks
from train.errors import BackendError
from train.files import write_atomic

CHECKS = (answers.check, caching.check, timer.check, synchronisation.check)


def audit(spec: Spec) -> Audit:
    """Open the backend and make every check.

    Raises:
        SlipwayError, SlipwayRuntimeError: whatever stops it.
    """
    subject = exported.read(spec.work, spec.experiment)
    fixed = subject.manifest.inputs[0].shape[0]
    batch = fixed if isinstance(fixed, int) else 1
    samples = tasks.named(subject.manifest.task).samples(subject.data_root, "val")
    inputs = choose(subject.manifest, [path for path, _ in samples], spec.inputs, batch, spec.seed)
    cv2.setNumThreads(spec.threads)
    made = Audit(backend=spec.backend, precision=spec.precision)
    backend = backends.check(spec.backend, spec.precision)
    try:
        try:
            opened = backend.open(subject, spec.precision, spec.device, spec.threads)
        except SessionError as error:
            raise BackendError(str(error))
        if isinstance(opened, Program):
            made.findings = program.check(opened, inputs, spec.boundaries, spec.timer)
        else:
            made.findings = in_process(load(subject.experiment.bundle, session=opened), inputs, spec)
    except BackendError as error:
        return made.model_copy(update={"status": "unavailable", "reason": str(error)})
    return made


def in_process(model: Model, inputs: Inputs, spec: Spec) -> list[Finding]:
    """Every check at every boundary that the images give a batch for."""
    boundaries = [boundary for boundary in spec.boundaries if boundary == "e2e" or inputs.tensors]
    return [check(model, inputs, boundary, spec.timer) for boundary in boundaries for check in CHECKS]


def main(argv: Sequence[str]) -> int:
    """Audit the spec's backend and write what was found, whole or not at all."""
    spec_file, audit_file = map(Path, argv)
    write_atomic(audit_file, audit(Spec.model_validate_json(spec_file.read_text())).model_dump_json())
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(cli.run(lambda _: main(sys.argv[1:])))
