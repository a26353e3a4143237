"""What is measured: a trained experiment with its bundle, and the proof that the two belong together."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from slipway_runtime import manifest as manifests
from slipway_runtime.manifest import Manifest
from train import data
from train.cli import nearest
from train.errors import InputError
from train.experiment import Experiment, Record, locate, names
from train.files import sha256


@dataclass(frozen=True)
class Exported:
    """One trained and exported model. Make it with `read`.

    Attributes:
        experiment: where things lie.
        record: what was trained, on what.
        manifest: what was exported.
    """

    experiment: Experiment
    record: Record
    manifest: Manifest

    @cached_property
    def bundle_sha256(self) -> str:
        """Of the manifest, which holds the hash of every other file of the bundle."""
        return sha256(self.experiment.bundle / manifests.FILE_NAME)

    @property
    def data_root(self) -> Path:
        """The prepared data set that the model was trained on."""
        return Path(self.record.data["root"])

    @property
    def data_fingerprint(self) -> str:
        """Of that data set."""
        return str(self.record.data["fingerprint"])

    def parity_passed(self) -> bool | None:
        """The verdict of the bundle's `parity.json`; None when there is no such file."""
        path = self.experiment.bundle / "parity.json"
        try:
            return bool(json.loads(path.read_text(encoding="utf-8"))["passed"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path}: expected a parity report, found {error!r}; export again")


def read(work: Path, name: str) -> Exported:
    """Read an experiment and check that its checkpoint, its bundle and its data belong together.

    Raises:
        UsageError: no such experiment (the text suggests the nearest name), or nothing trained under it.
        InputError: not exported yet, files altered, a bundle made from another checkpoint, or data that has changed.
        BundleError: a manifest or a graph that is damaged.
    """
    name = locate(name)[0] if name.endswith(".py") else name
    known = [str(path.parent.parent.relative_to(work)) for path in work.glob("**/train/record.json")]
    if name not in (*known, *names()):
        raise nearest(name, known or names(), "experiment")
    experiment = Experiment(name, work.resolve())
    record = experiment.read()
    if not (experiment.bundle / manifests.FILE_NAME).is_file():
        raise InputError(f"{experiment.bundle}: expected a bundle, found none; python -m deploy export {name} first")
    manifest = manifests.read(experiment.bundle)
    manifests.check_files(experiment.bundle, manifest, (manifests.GRAPH_NAME,))
    exported = Exported(experiment, record, manifest)
    _check_origin(exported)
    return exported


def _check_origin(exported: Exported) -> None:
    name, trained, origin = exported.experiment.name, exported.record.checkpoint_sha256, exported.manifest.origin
    if trained != origin.checkpoint_sha256:
        raise InputError(
            f"{name}: the bundle was exported from checkpoint {origin.checkpoint_sha256[:12]}…, "
            f"train/checkpoint.pth is {trained[:12]}…; export again, so that every row measures one model"
        )
    found = data.load(exported.data_root).fingerprint
    if found != exported.data_fingerprint:
        raise InputError(
            f"{exported.data_root}: the data set has fingerprint {found[:12]}…, {name} was trained on "
            f"{exported.data_fingerprint[:12]}…; prepare that set again, or train on this one"
        )
