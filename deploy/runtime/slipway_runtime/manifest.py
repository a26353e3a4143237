"""`manifest.json`: everything about a model that a runtime needs, in one validated file.

A bundle is a folder with a manifest and the files it names. Both runtimes (this package and the native `ort_infer`)
read only the manifest and those files; nothing about a model is written down twice.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, PositiveInt, ValidationError

from slipway_runtime.errors import BundleError

SCHEMA_VERSION = 1
FILE_NAME = "manifest.json"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
#: A bare file name, or a path of one folder below the bundle (`engines/x.plan`): never absolute, never `..`.
BundlePath = Annotated[str, Field(pattern=r"^(engines/)?[A-Za-z0-9_][A-Za-z0-9._-]*$")]
#: One value a channel, in the order of the tensor's channels.
PerChannel = Annotated[tuple[FiniteFloat, ...], Field(min_length=1)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TensorSpec(_Model):
    """A graph input or output. A symbolic dimension is a name ("batch", "height", "width"), a fixed one a number."""

    name: str
    dtype: Literal["float32", "float16", "uint8", "int8", "int32", "int64", "bool"]
    shape: tuple[PositiveInt | str, ...]


class Decode(_Model):
    """Image bytes → uint8 H×W×3, EXIF orientation applied; grey is repeated, alpha dropped, 16-bit scaled by 1/256."""

    op: Literal["decode"] = "decode"
    channel_order: Literal["bgr"] = "bgr"


class Resize(_Model):
    """Resize to `width`×`height`, or with `keep_ratio` to the largest size of the image's ratio that fits in it."""

    op: Literal["resize"] = "resize"
    width: PositiveInt
    height: PositiveInt
    keep_ratio: bool = False
    interpolation: Literal["nearest", "bilinear", "bicubic", "area", "lanczos"] = "bilinear"


class ResizeEdge(_Model):
    """Resize, ratio kept, so that the named edge has `size` pixels (mmpretrain's `ResizeEdge`)."""

    op: Literal["resize_edge"] = "resize_edge"
    size: PositiveInt
    edge: Literal["short", "long", "width", "height"]
    interpolation: Literal["nearest", "bilinear", "bicubic", "area", "lanczos"] = "bilinear"


class CenterCrop(_Model):
    """Cut `width`×`height` out of the middle; a smaller image is left as it is (mmcv's `CenterCrop`)."""

    op: Literal["center_crop"] = "center_crop"
    width: PositiveInt
    height: PositiveInt


class Pad(_Model):
    """Pad at the right and the bottom to `width`×`height`, or up to a multiple of `divisor`."""

    op: Literal["pad"] = "pad"
    width: PositiveInt | None = None
    height: PositiveInt | None = None
    divisor: PositiveInt | None = None
    value: PerChannel = (0.0,)


class Normalize(_Model):
    """uint8 → float32: channels reversed when `reverse_channels`, then (x − mean) / std in float32."""

    op: Literal["normalize"] = "normalize"
    mean: PerChannel
    std: PerChannel
    reverse_channels: bool


Step = Annotated[
    Decode | Resize | ResizeEdge | CenterCrop | Pad | Normalize,
    Field(discriminator="op"),
]


class ClassificationOutput(_Model):
    """A classifier: the graph's one output holds a score a class, N×C, each row summing to 1."""

    task: Literal["classification"] = "classification"
    topk: PositiveInt = 5


#: What becomes of the outputs; its `task` is the model's task. A new task adds its model here, a union by `task`.
Postprocess = ClassificationOutput


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
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...] | None = None
    inputs: Annotated[tuple[TensorSpec, ...], Field(min_length=1)]
    outputs: Annotated[tuple[TensorSpec, ...], Field(min_length=1)]
    preprocess: Annotated[tuple[Step, ...], Field(min_length=1)]
    postprocess: Postprocess
    files: dict[BundlePath, Sha256]
    origin: Origin
    tools: dict[str, str]

    @property
    def task(self) -> str:
        """What the model does: "classification", …"""
        return self.postprocess.task

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
    try:
        raw = json.loads(text, parse_constant=_refuse_constant)
        version = raw.get("schema_version") if isinstance(raw, dict) else None
        if version != SCHEMA_VERSION:
            raise BundleError(
                f"{path}: schema_version {version!r}, this runtime reads {SCHEMA_VERSION}; export again or update slipway-runtime"
            )
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "manifest"
        raise BundleError(f"{path}: {where}: {first['msg']}; export again") from None
    except ValueError as error:
        raise BundleError(f"{path}: not valid JSON ({error}); export again") from None


def check_files(bundle: Path, manifest: Manifest, names: tuple[str, ...] | None = None) -> None:
    """Compare the named files (default: all) with the manifest's hashes.

    Raises:
        BundleError: a file that the manifest does not name, is missing, or has other content.
    """
    for name in names if names is not None else tuple(manifest.files):
        if name not in manifest.files:
            raise BundleError(f"{bundle}: the manifest names no '{name}'; it has {', '.join(sorted(manifest.files))}")
        path = Path(bundle) / name
        if not path.is_file():
            raise BundleError(f"{path}: missing, though the manifest names it; export again")
        with path.open("rb") as file:
            found = hashlib.sha256(file.read()).hexdigest()
        if found != manifest.files[name]:
            raise BundleError(
                f"{path}: content was altered (sha256 {found[:12]}…, manifest says {manifest.files[name][:12]}…); export again"
            )


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")
