"""A loaded bundle: images in, typed results out, and each stage on its own for who measures or serves them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from slipway_runtime import cuda, plan, preprocess, tasks
from slipway_runtime import image as images_
from slipway_runtime import manifest as manifests
from slipway_runtime.errors import BundleError, UsageError, VerificationError
from slipway_runtime.image import Image
from slipway_runtime.manifest import Manifest, TensorSpec
from slipway_runtime.preprocess import Prepared
from slipway_runtime.sessions import ENGINES, Session, open_session


def load(
    bundle: str | Path,
    *,
    device: str = "cpu",
    threads: int | None = None,
    precision: str = manifests.PRECISIONS[0],
    engine: str = ENGINES[0],
    session: Session | None = None,
    verify: bool = True,
) -> "Model":
    """Load a bundle.

    Args:
        bundle: the bundle's folder, one of its TensorRT plans, or a bare `model.onnx` that carries its manifest in its
            metadata.
        device: "cpu" or "cuda".
        threads: how many threads one operator may use on the CPU; the engine decides when `None`.
        precision: "fp32", "fp16" or "int8": which of the bundle's graphs or plans to open. A file has its own.
        engine: "onnxruntime", or "tensorrt": the bundle's newest plan for this machine. A file has its own.
        session: a session to use instead of opening one; `device`, `threads`, `precision` and `engine` are then its own.
        verify: compare the graph with the hash in the manifest first. A bare file has no hash to compare with; a plan's is
            always compared.

    Raises:
        UsageError: an unknown device, precision or engine, one of the latter two for a file, or no positive number of
            threads.
        BundleError: a bundle that is missing, incomplete, altered, of an unknown schema or without that precision; a plan
            that was altered, or is of another graph than the bundle's.
        SessionError: a device or engine that is not there, or no plan for this machine.
    """
    path = Path(bundle)
    name = manifests.graph_name(precision)
    if engine not in ENGINES:
        raise UsageError(f"unknown engine '{engine}', expected one of: {', '.join(ENGINES)}")
    if not path.is_dir():
        if name != manifests.GRAPH_NAME or (engine != ENGINES[0] and path.suffix != plan.SUFFIX):
            raise UsageError(
                f"{path}: precision {precision} of engine {engine} is for a bundle's folder; name its file instead"
            )
        return _of_file(path, device, threads, session)
    manifest = manifests.read(path)
    if session is None:
        file = _plan(path, manifest, precision, device) if engine == "tensorrt" else path / name
        if file.name == name:
            _require(path, manifest, precision)
            # The graph and, beside it, its external data.
            files = [name, *(each for each in manifest.files if each.startswith(f"{name}."))]
            manifests.check_files(path, manifest, files if verify else [])
        session = open_session(file, device=device, threads=threads)
    return Model(manifest, session)


class Model:
    """A manifest and a session that fits it.

    Attributes:
        manifest: everything the bundle says about the model.
        session: the graph, ready to run.
    """

    def __init__(self, manifest: Manifest, session: Session) -> None:
        _compare("inputs", manifest, manifest.inputs, session.inputs, fixed_to_differ=1)
        # An engine may infer more of an output's shape than the graph's file declares: only two numbers can differ.
        _compare("outputs", manifest, manifest.outputs, session.outputs, fixed_to_differ=2)
        self.manifest = manifest
        self.session = session

    def __call__(self, images: Image | Iterable[Image], batch_size: int | None = None) -> list[tasks.Result]:
        """Predict.

        Args:
            images: one image or several, each a path, encoded bytes, or a uint8 H×W×3 BGR array.
            batch_size: how many images go through the graph at once: the graph's own number where that is fixed, else 1
                when `None`. Images that differ in size after preprocessing are never put into one batch, nor more of them
                than the engine takes at once.

        Returns:
            A result an image, in order, for one image too.

        Raises:
            ImageError: an image that cannot be read as one.
            UsageError: a batch size that the graph does not have.
            SessionError: an input size that the graph does not have.
            VerificationError: outputs that are no finite numbers.
        """
        one = isinstance(images, str | Path | bytes) or (isinstance(images, np.ndarray) and images.ndim < 4)
        several: Iterable[Image] = [images] if one else images  # type: ignore[list-item, assignment]
        return self.predict((self.preprocess(image) for image in several), batch_size)

    def predict(self, prepared: Iterable[Prepared], batch_size: int | None = None) -> list[tasks.Result]:
        """As calling the model, on preprocessed images."""
        size = self.batch_size(batch_size)
        results: list[tasks.Result] = []
        batch: list[Prepared] = []
        for one in prepared:
            if len(batch) == size or (batch and one.array.shape != batch[0].array.shape):
                results += self._predict(batch)
                batch = []
            batch.append(one)
        return results + self._predict(batch)

    def batch_size(self, wanted: int | None = None) -> int:
        """The batch size that `wanted` stands for.

        Raises:
            UsageError: less than 1, or not the graph's where that is fixed.
        """
        fixed = self.manifest.inputs[0].shape[0]
        if wanted is None:
            return self.session.min_batch
        if wanted < 1 or (isinstance(fixed, int) and wanted != fixed):
            raise UsageError(
                f"batch size {wanted}: this graph takes {fixed if isinstance(fixed, int) else '1 or more'}"
            )
        return wanted

    def decode(self, image: Image) -> NDArray[np.uint8]:
        """Decode an image to uint8 H×W×3 BGR; see `slipway_runtime.image.decode`."""
        return images_.decode(image)

    def preprocess(self, image: Image) -> Prepared:
        """Decode and preprocess an image; see `slipway_runtime.preprocess.preprocess`."""
        return preprocess.preprocess(image, self.manifest.preprocess)

    def inputs(self, prepared: Prepared) -> list[NDArray[np.float32]]:
        """What goes through the graph for one image: its array, or the windows that the task cuts out of it."""
        return tasks.inputs(self.manifest, prepared)

    def feeds(self, arrays: Sequence[NDArray[np.float32]]) -> dict[str, NDArray]:
        """Stack C×H×W arrays of one shape into the graph's input, N×C×H×W, in the graph's own data type.

        Where the session takes only larger batches, the last image is repeated.

        Raises:
            UsageError: no arrays, arrays of several shapes, or more than the session takes at once.
        """
        spec = self.manifest.inputs[0]
        shapes = {array.shape for array in arrays}
        size = self.session.batch(len(arrays), arrays[0].shape) if len(shapes) == 1 else 0
        if len(arrays) > size:
            most = f", {self.session.max_batch} images at most" if self.session.max_batch else ""
            raise UsageError(f"a batch is {spec.shape}{most}, got {len(arrays)} images of shapes {sorted(shapes)}")
        return {spec.name: _cast(np.stack([*arrays, *[arrays[-1]] * (size - len(arrays))]), spec.dtype)}

    def _predict(self, batch: Sequence[Prepared]) -> list[tasks.Result]:
        """Results of images of one size, in as many parts as the session needs."""
        results: list[tasks.Result] = []
        while len(results) < len(batch):
            left = batch[len(results) :]
            size = self.session.batch(len(left), self.inputs(left[0])[0].shape)
            results += tasks.predict(self.manifest, left[:size], self._run)
        return results

    def _run(self, arrays: Sequence[NDArray[np.float32]]) -> dict[str, NDArray]:
        """Outputs for these arrays, without those for what filled a fixed batch up."""
        outputs = {name: array[: len(arrays)] for name, array in self.session.run(self.feeds(arrays)).items()}
        for name, array in outputs.items():
            # A NaN is the least and the greatest; unlike `isfinite` of all values, this allocates nothing.
            if array.size and not np.isfinite([array.min(), array.max()]).all():
                raise VerificationError(
                    f"{self.manifest.name}: output '{name}' has values that are no finite numbers; verify the export"
                )
        return outputs


def _require(bundle: Path, manifest: Manifest, precision: str) -> None:
    """Refuse (BundleError) a precision that the bundle has no graph in; the text names those it has."""
    known = [each for each in manifests.PRECISIONS if manifests.graph_name(each) in manifest.files]
    if precision in (manifests.PRECISIONS[0], *known):
        return
    raise BundleError(
        f"{bundle}: no graph in {precision}; it has {', '.join(known)}; "
        f"make one with `make export-{manifest.kind} EXP={manifest.name} PRECISION={precision}`"
    )


def _cast(batch: NDArray[np.float32], dtype: str) -> NDArray:
    """Round to nearest even, for integers within their range; what images never are stays, and is refused by sessions."""
    if dtype in ("uint8", "int8"):
        limits = np.iinfo(dtype)
        return np.clip(np.rint(batch), limits.min, limits.max).astype(dtype)
    with np.errstate(over="ignore"):  # too large for float16 is infinite
        return batch.astype(np.float16) if dtype == "float16" else batch


def _plan(bundle: Path, manifest: Manifest, precision: str, device: str) -> Path:
    """The bundle's plan for this machine."""
    if device != "cuda":
        raise UsageError(f"engine tensorrt runs on device cuda only, not on {device}")
    return plan.find(bundle, manifest, precision, cuda.machine())[0]


def _of_file(path: Path, device: str, threads: int | None, session: Session | None) -> Model:
    if path.suffix == plan.SUFFIX:
        manifest = _around(path)
        return Model(manifest, session or open_session(path, device=device, threads=threads))
    # With a session given, the file is opened for its manifest only.
    opened = open_session(path, device="cpu" if session else device, threads=threads)
    return Model(_embedded(path, opened.metadata), session or opened)


def _around(path: Path) -> Manifest:
    """The manifest of the bundle that a plan lies in; refuse (BundleError) one that was not built from the bundle's graph."""
    bundle = path.parent.parent
    if not path.is_file():
        raise BundleError(f"{path}: no such file; plans are made by `make engine-…`")
    if path.parent.name != plan.FOLDER or not (bundle / manifests.FILE_NAME).is_file():
        raise BundleError(
            f"{path}: no bundle around it; a plan is read where it was built, BUNDLE/{plan.FOLDER}/NAME.plan"
        )
    manifest, info = manifests.read(bundle), plan.read(path)
    if not plan.of_today(info, manifest):
        raise BundleError(f"{path}: built from another {info.graph} than the bundle has; {plan.command(path, info)}")
    return manifest


def _embedded(path: Path, metadata: Mapping[str, str]) -> Manifest:
    if manifests.METADATA_KEY not in metadata:
        raise BundleError(f"{path}: no '{manifests.METADATA_KEY}' in its metadata; give the bundle's folder instead")
    return manifests.parse(metadata[manifests.METADATA_KEY], f"{path}: metadata")


def _compare(
    what: str, manifest: Manifest, said: Sequence[TensorSpec], found: Sequence[TensorSpec], *, fixed_to_differ: int
) -> None:
    """Refuse (BundleError) specs that differ; two symbols never do, whatever their names."""

    def same(a: TensorSpec, b: TensorSpec) -> bool:
        return (a.name, a.dtype, len(a.shape)) == (b.name, b.dtype, len(b.shape)) and all(
            x == y or isinstance(x, int) + isinstance(y, int) < fixed_to_differ
            for x, y in zip(a.shape, b.shape, strict=True)
        )

    if len(said) != len(found) or not all(map(same, said, found)):
        raise BundleError(
            f"{manifest.name}: the manifest's {what} are {_text(said)}, the graph's are {_text(found)}; export again"
        )


def _text(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name} {spec.dtype} ({', '.join(map(str, spec.shape))})" for spec in specs)
