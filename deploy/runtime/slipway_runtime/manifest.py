"""`manifest.json`: everything about a model that a runtime needs, in one validated file.

A bundle is a folder with a manifest and the files it names. Both runtimes (this package and the native `ort_infer`)
read only the manifest and those files; nothing about a model is written down twice. The graph carries the manifest too
(see `METADATA_KEY`), so that a bare `model.onnx` is still usable.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NoReturn

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from slipway_runtime.errors import BundleError, UsageError

SCHEMA_VERSION = 1
FILE_NAME = "manifest.json"
#: The bundle's graph.
GRAPH_NAME = "model.onnx"
#: What a graph computes in; the bundle's own is the first, the others are added to it.
PRECISIONS = ("fp32", "fp16", "int8")
#: The ONNX metadata entry that holds the manifest's JSON, with `files` empty: a file cannot hold its own hash.
METADATA_KEY = "slipway.manifest"
#: How many classes a uint8 label map can hold beside 255, which stands for "ignored" in data sets.
MAX_LABELS = 255


def _one_or_three(values: tuple[float, ...]) -> tuple[float, ...]:
    if len(values) not in (1, 3):
        raise ValueError(f"expected one value or three, got {len(values)}")
    return values


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
#: A bare file name, or a path of one folder below the bundle (`engines/x.plan`): never absolute, never `..`.
BundlePath = Annotated[str, Field(pattern=r"^(engines/)?[A-Za-z0-9_][A-Za-z0-9._-]*$")]
#: A width, a height or a divisor of them, in pixels.
Pixels = Annotated[int, Field(gt=0, le=1 << 16)]
#: One value a channel, in the order of the array's channels at that step, or one value for all.
PerChannel = Annotated[tuple[FiniteFloat, ...], Field(min_length=1, max_length=3), AfterValidator(_one_or_three)]
Byte = Annotated[int, Field(ge=0, le=255)]
Interpolation = Literal["nearest", "bilinear", "bicubic", "area", "lanczos"]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorSpec(_Model):
    """A graph input or output. A symbolic dimension is a name ("batch", "height", "width"), a fixed one a number."""

    name: str
    dtype: Literal["float32", "float16", "uint8", "int8", "int32", "int64", "bool"]
    shape: tuple[Annotated[int, Field(gt=0)] | str, ...]


class Decode(_Model):
    """Image bytes → uint8 H×W×3, EXIF orientation applied, grey repeated, alpha dropped, upper 8 of 16 bits kept."""

    op: Literal["decode"] = "decode"
    channel_order: Literal["bgr"] = "bgr"


class Resize(_Model):
    """Resize to `width`×`height`, or with `keep_ratio` as far as both edges fit.

    As in mmcv's `Resize`, "fit" does not mind orientation: the image's long edge is held against the larger of `width`
    and `height`, its short edge against the smaller.
    """

    op: Literal["resize"] = "resize"
    width: Pixels
    height: Pixels
    keep_ratio: bool = False
    interpolation: Interpolation = "bilinear"


class ResizeEdge(_Model):
    """Resize, ratio kept, so that the named edge has `size` pixels (mmpretrain's `ResizeEdge`)."""

    op: Literal["resize_edge"] = "resize_edge"
    size: Pixels
    edge: Literal["short", "long", "width", "height"]
    interpolation: Interpolation = "bilinear"


class CenterCrop(_Model):
    """Cut `width`×`height` out of the middle; an edge that is smaller is left as it is (mmcv's `CenterCrop`)."""

    op: Literal["center_crop"] = "center_crop"
    width: Pixels
    height: Pixels


class Pad(_Model):
    """Pad at the right and the bottom up to `width`×`height`, a multiple of `divisor`, or a `square`; never cut.

    Before `normalize` it pads the uint8 image (mmcv's `Pad`), after it the normalised one (the data preprocessor's
    `pad_size_divisor`).
    """

    op: Literal["pad"] = "pad"
    width: Pixels | None = None
    height: Pixels | None = None
    divisor: Pixels | None = None
    square: bool = False
    value: PerChannel = (0.0,)

    @model_validator(mode="after")
    def _size_or_divisor(self) -> "Pad":
        given = (self.width is not None, self.height is not None, self.divisor is not None, self.square)
        if given not in ((True, True, False, False), (False, False, True, False), (False, False, False, True)):
            raise ValueError("pad needs both width and height, divisor alone, or square alone")
        return self


class Normalize(_Model):
    """uint8 → float32: channels reversed when `reverse_channels`, then (x − mean) / std in float32."""

    op: Literal["normalize"] = "normalize"
    mean: PerChannel
    std: PerChannel
    reverse_channels: bool

    @model_validator(mode="after")
    def _positive_std(self) -> "Normalize":
        if min(self.std) <= 0:
            raise ValueError(f"std must be above 0, got {self.std}")
        return self


Step = Annotated[
    Decode | Resize | ResizeEdge | CenterCrop | Pad | Normalize,
    Field(discriminator="op"),
]


class ClassificationOutput(_Model):
    """A classifier: the graph's one output holds a score a class, N×C, each row summing to 1."""

    task: Literal["classification"] = "classification"
    topk: Annotated[int, Field(gt=0, lt=1 << 63)] = 5

    def check_outputs(self, outputs: Sequence[TensorSpec], classes: int) -> None:
        """Refuse (ValueError) outputs that are not this task's."""
        if len(outputs) != 1 or len(outputs[0].shape) != 2 or outputs[0].shape[1] != classes:
            found = ", ".join(f"{spec.name} {spec.shape}" for spec in outputs)
            raise ValueError(f"a classifier of {classes} classes has one output ('batch', {classes}), found {found}")


class Window(_Model):
    """The sliding window of mmseg's `test_cfg=dict(mode="slide", crop_size, stride)`, in pixels of the prepared image.

    Windows are moved back at the right and the bottom edge to end there; where they overlap, logits are averaged.
    """

    height: Pixels
    width: Pixels
    stride_height: Pixels
    stride_width: Pixels

    @model_validator(mode="after")
    def _no_gaps(self) -> "Window":
        if self.stride_height > self.height or self.stride_width > self.width:
            raise ValueError("a stride larger than the window would leave pixels out")
        return self


class SegmentationOutput(_Model):
    """A semantic segmenter: the graph's one output holds logits, float32 N×C×h×w.

    h×w is the size of the graph's input ("full"), or what the network's stride leaves of it ("stride"). Logits are
    resized bilinearly to the input's size, averaged over the windows where there are any, cut to the image's content,
    resized to the image's own size, and only then compared: the largest of C gives the label, the lowest of equal ones;
    of one channel, sigmoid > `threshold` gives 1, else 0. As mmseg's `EncoderDecoder.inference` and `postprocess_result`.
    """

    task: Literal["segmentation"] = "segmentation"
    logits: Literal["full", "stride"] = "full"
    align_corners: bool
    threshold: FiniteFloat | None = None
    window: Window | None = None

    def check_outputs(self, outputs: Sequence[TensorSpec], classes: int) -> None:
        """Refuse (ValueError) outputs that are not this task's, and fewer or more classes than a label map tells apart."""
        if not 2 <= classes <= MAX_LABELS:
            raise ValueError(f"a segmenter has 2 to {MAX_LABELS} classes, found {classes}")
        if self.threshold is not None and classes != 2:
            raise ValueError(f"a threshold tells 2 classes apart, found {classes}")
        channels = classes if self.threshold is None else 1
        expected = ("float32", 4, channels)
        if [(spec.dtype, len(spec.shape), *spec.shape[1:2]) for spec in outputs] != [expected]:
            found = ", ".join(f"{spec.name} {spec.dtype} {spec.shape}" for spec in outputs)
            raise ValueError(f"expected one output float32 ('batch', {channels}, 'height', 'width'), found {found}")


class Masks(_Model):
    """How instance masks are made of the graph's third output, float32 N×K×h×w.

    "box": probabilities on a grid over each detection's own box, pasted into the image with bilinear samples at pixel
    centres (mmdet's `FCNMaskHead`, `_do_paste_mask`). "image": logits over the graph's whole input, h×w a whole stride of
    it, resized bilinearly to the input, then by the image's scale, cut to the image, and put through a sigmoid (mmdet's
    `RTMDetInsHead`). A pixel belongs to the mask where its probability is ≥ `threshold` ("box") or > `threshold` ("image").
    """

    over: Literal["box", "image"]
    threshold: Annotated[float, Field(gt=0, lt=1)]


class DetectionOutput(_Model):
    """A detector: `dets` float32 N×K×5, `labels` int64 N×K and, with instance masks, `masks` float32 N×K×h×w.

    A row of `dets` is x1, y1, x2, y2 in pixels of the graph's input and a score; rows are sorted, best first. Where an image
    has fewer than K detections, the other rows have label −1. Boxes are cut to the image's content where `clip`, then
    divided by the image's scale factor.

    Attributes:
        score_threshold: detections below it are left out of what a person is shown; metrics count them all.
        clip: whether boxes are cut at the edges of the image.
        masks: how masks are made; None: boxes only.
    """

    task: Literal["detection"] = "detection"
    score_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.3
    clip: bool
    masks: Masks | None = None

    def check_outputs(self, outputs: Sequence[TensorSpec], classes: int) -> None:
        """Refuse (ValueError) outputs that are not this task's."""
        expected = [("dets", "float32", 3), ("labels", "int64", 2)]
        if self.masks:
            expected.append(("masks", "float32", 4))
        found = [(spec.name, spec.dtype, len(spec.shape)) for spec in outputs]
        if found != expected or outputs[0].shape[2] != 5:
            shown = ", ".join(f"{spec.name} {spec.dtype} {spec.shape}" for spec in outputs)
            wanted = ", ".join(f"{name} {dtype} of {axes} axes" for name, dtype, axes in expected)
            raise ValueError(f"a detector has {wanted}, the last axis of dets being 5; found {shown}")


#: What becomes of the outputs. `task` is the model's task and names the module in `slipway_runtime.tasks` that does it.
Postprocess = Annotated[ClassificationOutput | SegmentationOutput | DetectionOutput, Field(discriminator="task")]


class Origin(_Model):
    """Where the graph comes from."""

    checkpoint: str
    checkpoint_sha256: Sha256
    config: BundlePath
    config_sha256: Sha256


class Manifest(_Model):
    """The content of `manifest.json`."""

    schema_version: Literal[1] = 1
    name: str
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    #: A colour a class, RGB.
    palette: tuple[tuple[Byte, Byte, Byte], ...] | None = None
    #: The image batch, N×C×H×W.
    inputs: Annotated[tuple[TensorSpec, ...], Field(min_length=1, max_length=1)]
    outputs: Annotated[tuple[TensorSpec, ...], Field(min_length=1)]
    preprocess: Annotated[tuple[Step, ...], Field(min_length=1)]
    postprocess: Postprocess
    files: dict[BundlePath, Sha256] = {}
    origin: Origin
    tools: dict[str, str]

    @property
    def task(self) -> str:
        """What the model does: "classification", "segmentation", …"""
        return self.postprocess.task

    @property
    def kind(self) -> str:
        """The task as verbs and experiments abbreviate it: "cls", "det" or "seg"."""
        return {"classification": "cls", "detection": "det", "segmentation": "seg"}[self.task]

    @model_validator(mode="after")
    def _fits_together(self) -> "Manifest":
        shape = self.inputs[0].shape
        if len(shape) != 4:
            raise ValueError(f"the input is a batch of images, N×C×H×W, found {shape}")
        ops = [step.op for step in self.preprocess]
        if ops[0] != "decode" or ops.count("decode") > 1:
            raise ValueError(f"decode comes first and once, found {ops}")
        if "normalize" in ops and set(ops[ops.index("normalize") + 1 :]) - {"pad"}:
            # Resizing float images differs between OpenCV versions by 4e-3; uint8 images resize alike everywhere.
            raise ValueError(f"after normalize only pad may follow, found {ops}")
        if self.task == "detection" and "center_crop" in ops:
            raise ValueError(f"a detector's boxes are led back to the image by its scale alone, found a crop in {ops}")
        self.postprocess.check_outputs(self.outputs, len(self.classes))
        if self.palette is None and self.task != "classification":
            raise ValueError(f"{self.task} needs a palette, a colour a class")
        if self.palette is not None and len(self.palette) != len(self.classes):
            raise ValueError(f"a palette has a colour a class: {len(self.classes)}, found {len(self.palette)}")
        return self

    def to_json(self) -> str:
        """The manifest as it is written: indented JSON with a final newline."""
        return self.model_dump_json(indent=2) + "\n"


def read(bundle: Path) -> Manifest:
    """Read and validate a bundle's manifest. Hashes are checked by `check_files`.

    Raises:
        BundleError: no manifest, no JSON, an unknown schema version, or a field that does not fit.
    """
    path = Path(bundle) / FILE_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path}: not a bundle's manifest ({error}); a bundle is a folder made by `make export-…`")
    return parse(text, str(path))


def parse(text: str, where: str) -> Manifest:
    """Validate a manifest's JSON; `where` begins the error texts.

    Raises:
        BundleError: no JSON, an unknown schema version, or a field that does not fit.
    """
    try:
        raw = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{where}: not valid JSON ({error}); export again")
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if type(version) is not int or version != SCHEMA_VERSION:
        raise BundleError(
            f"{where}: schema_version {version!r}, this runtime reads {SCHEMA_VERSION};"
            " export again or update slipway-runtime"
        )
    try:
        # Strict: no "3" for 3, so that the native runtime, which does not convert either, reads the same manifests.
        return Manifest.model_validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        field = " ".join(".".join(map(str, first["loc"])).split()) or "manifest"
        raise BundleError(f"{where}: {field}: {' '.join(first['msg'].split())}; export again")


def graph_name(precision: str) -> str:
    """The file name of a bundle's graph in a precision: "model.onnx", "model.fp16.onnx", "model.int8.onnx".

    Raises:
        UsageError: an unknown precision.
    """
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision '{precision}', expected one of: {', '.join(PRECISIONS)}")
    return GRAPH_NAME if precision == PRECISIONS[0] else f"model.{precision}.onnx"


def check_files(bundle: Path, manifest: Manifest, names: Sequence[str] | None = None) -> None:
    """Compare the named files (default: all) with the manifest's hashes.

    Raises:
        BundleError: a file that the manifest does not name, is missing, or has other content.
    """
    for name in manifest.files if names is None else names:
        if name not in manifest.files:
            raise BundleError(f"{bundle}: the manifest names no '{name}'; it has {', '.join(sorted(manifest.files))}")
        path = Path(bundle) / name
        try:
            found = sha256(path)
        except OSError as error:
            raise BundleError(f"{path}: cannot be read, though the manifest names it ({error.strerror}); export again")
        if found != manifest.files[name]:
            raise BundleError(
                f"{path}: content was altered (sha256 {found[:12]}…, manifest says {manifest.files[name][:12]}…);"
                " export again"
            )


def sha256(path: Path) -> str:
    """The hash of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number")
