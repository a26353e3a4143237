"""`ort_infer`, the runtime in C++, as the harness drives it: it times itself and predicts in processes of its own."""

import os
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.environment import ROOT
from benchmarks.inputs import Inputs, queue
from benchmarks.matrix import Boundary
from benchmarks.memory import peak_rss_mib
from benchmarks.native import predictions, reports
from benchmarks.native.reports import Report
from benchmarks.outcome import Stage
from benchmarks.timing import TimerSettings, Timing
from slipway_runtime.manifest import Manifest
from slipway_runtime.tasks import Result
from train.errors import BackendError, MeasurementError

#: The environment variable that names another program than the one `make native` builds.
VARIABLE = "ORT_INFER"
BUILT = ROOT / ".build" / "native" / "ort_infer"
#: Its exit code where the engine or the device is missing.
_MISSING = 4


class ProgramError(MeasurementError):
    """The program did not end well. The text is the last line that it wrote to stderr."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


def find() -> Path:
    """The program.

    Raises:
        BackendError: it is not there.
    """
    named = os.environ.get(VARIABLE)
    path = Path(named) if named else BUILT
    if not path.is_file() or not os.access(path, os.X_OK):
        raise BackendError(
            f"{VARIABLE}={named} is no program" if named else "ort_infer is not built; run `make native`"
        )
    return path


def version() -> str | None:
    """What the program says of itself, "0.1.0, ONNX Runtime 1.31.1"; None where it is not there."""
    try:
        said = subprocess.run([find(), "--version"], capture_output=True, text=True, check=False, timeout=60)
    except (BackendError, OSError, subprocess.SubprocessError):
        return None
    return said.stdout.strip().removeprefix("ort_infer ") or None


class Program:
    """The program with one of a bundle's graphs on one device.

    Args:
        bundle: its folder.
        manifest: the bundle's.
        device: "cpu", "cuda" or "tensorrt".
        threads: threads inside an operator, and as many that prepare images.
        precision: "fp32", "fp16" or "int8".

    Attributes:
        peak_rss_mib: most resident memory that one of its processes has had, in MiB.

    Raises:
        BackendError: the program or the device is not there.
    """

    def __init__(self, bundle: Path, manifest: Manifest, device: str, threads: int, precision: str = "fp32") -> None:
        self.peak_rss_mib = 0.0
        self._manifest = manifest
        count = str(threads)
        self._command = [str(find()), str(bundle), "--device", device, "--precision", precision]
        self._command += ["--threads", count, "--workers", count]
        if device != "cpu":
            self._check_device()

    def time(self, boundary: Boundary, inputs: Inputs, settings: TimerSettings) -> Timing | None:
        """Time a boundary on the images of `inputs`, in a process of its own; None where they give no batch for it.

        Of a sliding model, the program takes a batch's windows from images of one size.

        Raises:
            MeasurementError: the program failed, or measured other images.
        """
        groups = inputs.encoded_paths if boundary == "e2e" else inputs.tensor_paths
        if not groups:
            return None
        found = self.measure([path for group in groups for path in group], boundary, len(groups[0]), settings)
        timed = found.boundaries[boundary]
        if not timed.samples_us:
            return None
        sizes = inputs.image_sizes if boundary == "e2e" else inputs.tensor_sizes
        if not set(timed.sizes) <= set(sizes):
            raise MeasurementError(f"ort_infer measured {boundary} on sizes {timed.sizes}, expected {sizes}")
        return timed.timing()

    def measure(
        self,
        paths: Sequence[Path],
        boundary: str,
        batch: int,
        settings: TimerSettings,
        *,
        answers: bool = False,
        repeat_one: bool = False,
        stages: bool = False,
    ) -> Report:
        """What `--benchmark` says of one boundary, which may be "folder" too.

        Args:
            paths: the images.
            boundary: "model", "host", "e2e" or "folder".
            batch: images at once.
            settings: see `TimerSettings`.
            answers: report what the last timed calls answered, and what the graph answers when none is timed.
            repeat_one: time the first image or batch alone.
            stages: report how long each stage of an image's way takes.

        Raises:
            MeasurementError: the program failed, or printed something else.
        """
        wanted = {"--answers": answers, "--repeat-one": repeat_one, "--stages": stages}
        options = ["--benchmark", "--json", "--boundaries", boundary, "--batch", batch]
        options += [option for option, on in wanted.items() if on]
        printed = "".join(self.lines(paths, *options, "--timer", settings.model_dump_json()))
        report = reports.read(printed, boundary)
        self.peak_rss_mib = max(self.peak_rss_mib, report.peak_rss_mib)
        return report

    def offline(self, inputs: Inputs, settings: TimerSettings) -> tuple[Timing, int]:
        """Time passes over images that are all there at once, and how many images a pass has.

        Raises:
            MeasurementError: the program failed.
        """
        batch = len(inputs.encoded_paths[0])
        paths = queue([path for group in inputs.encoded_paths for path in group], batch)
        found = self.measure(paths, "folder", batch, settings).folder
        assert found
        samples = [round(seconds * 1e6, 1) for seconds in found.whole_s]
        return Timing(samples_us=samples, wall_s=sum(found.whole_s), warmup_us=[]), found.images

    def stages(self, inputs: Inputs, settings: TimerSettings) -> dict[Stage, list[float]]:
        """Each step from file to prediction in microseconds, image by image.

        Raises:
            MeasurementError: the program failed.
        """
        found = self.measure([group[0] for group in inputs.encoded_paths], "e2e", 1, settings, stages=True).stages_us
        if found is None:
            return {}
        return {
            "decode": found.decode,
            "preprocess": found.preprocess,
            "compute": found.compute,
            "postprocess": found.postprocess,
        }

    def predict(self, paths: Sequence[Path], batch: int) -> Iterator[Result]:
        """Predictions of images, in order: of a classifier all classes, of a detector all detections.

        Raises:
            MeasurementError: the program failed, or printed something else.
        """
        with tempfile.TemporaryDirectory(prefix="ort_infer-") as folder:
            reader = predictions.reader(self._manifest, Path(folder))
            shown = reader.names(paths)
            lines = self.lines(shown, "--json", "--batch", batch, *reader.options)
            for path in shown:
                yield reader.read(next(lines, ""), path)
            for line in lines:
                raise MeasurementError(f"ort_infer printed more than a line an image: {reports.excerpt(line)}")

    def lines(self, paths: Sequence[Path], *options: object) -> Iterator[str]:
        """The lines that the program prints when it runs on images.

        Raises:
            ProgramError: after the last line, where the program did not end well.
        """
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as images, tempfile.TemporaryFile("w+") as errors:
            images.writelines(f"{path}\n" for path in paths)
            images.flush()
            command = [*self._command, images.name, *map(str, options)]
            child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, errors="replace")
            try:
                assert child.stdout is not None
                for line in child.stdout:
                    self.peak_rss_mib = max(self.peak_rss_mib, peak_rss_mib(child.pid) or 0.0)
                    yield line
                code = child.wait()
            finally:
                child.kill()
                child.communicate()
            if code:
                errors.seek(0)
                said = errors.read().split("\n")
                last = next((line for line in reversed(said) if line.strip()), f"ort_infer exited with {code}")
                raise ProgramError(last.removeprefix("error: "), code)

    def _check_device(self) -> None:
        # No image: the program opens the graph first.
        try:
            for _ in self.lines([Path(os.devnull)]):
                pass
        except ProgramError as error:
            if error.code == _MISSING:
                raise BackendError(str(error))
