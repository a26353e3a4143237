"""An mm* test pipeline → the manifest's preprocessing steps, every number written out, or a refusal by name."""

from collections.abc import Callable, Mapping
from typing import Any

from mmengine.config import Config

from slipway_runtime.manifest import CenterCrop, Decode, Normalize, Pad, Resize, ResizeEdge, Step
from train import config as configs
from train.errors import UsageError

Transform = Mapping[str, Any]


def steps(config: Config) -> tuple[Step, ...]:
    """Translate the test pipeline and the data preprocessor of a resolved config.

    Raises:
        UsageError: a transform or an option that the runtimes cannot repeat bit for bit.
    """
    found: list[Step] = []
    for transform in configs.test_pipeline(config):
        name = transform["type"].split(".")[-1]
        if name in _IGNORED:
            continue
        if name not in _TRANSLATORS:
            raise UsageError(
                f"the test pipeline's '{name}' has no counterpart in the runtimes; known: {', '.join(sorted(_TRANSLATORS))}"
            )
        found.append(_TRANSLATORS[name](transform))
    found += _preprocessor(config.model.data_preprocessor or {})
    return tuple(found)


def _load(transform: Transform) -> Step:
    _only(transform, color_type="color", to_float32=False, imdecode_backend="cv2", ignore_empty=False)
    return Decode()


def _resize(transform: Transform) -> Step:
    _only(transform, backend="cv2", clip_object_border=True)
    scale = transform.get("scale")
    if scale is None:
        raise UsageError("the test pipeline's Resize has no scale; a scale_factor is not supported")
    width, height = (scale, scale) if isinstance(scale, int) else scale
    return Resize(
        width=width,
        height=height,
        keep_ratio=transform.get("keep_ratio", False),
        interpolation=transform.get("interpolation", "bilinear"),
    )


def _resize_edge(transform: Transform) -> Step:
    _only(transform, backend="cv2")
    return ResizeEdge(
        size=transform["scale"],
        edge=transform.get("edge", "short"),
        interpolation=transform.get("interpolation", "bilinear"),
    )


def _center_crop(transform: Transform) -> Step:
    _only(transform, auto_pad=False, clip_object_border=True)
    size = transform["crop_size"]
    width, height = (size, size) if isinstance(size, int) else size
    return CenterCrop(width=width, height=height)


def _pad(transform: Transform) -> Step:
    _only(transform, padding_mode="constant")
    value = transform.get("pad_val", 0)
    value = value.get("img", 0) if isinstance(value, Mapping) else value
    size = transform.get("size")
    square = transform.get("pad_to_square", False)
    if square and (size or transform.get("size_divisor")):
        raise UsageError("the test pipeline's Pad has pad_to_square with another size; the runtimes repeat either")
    return Pad(
        width=size[0] if size else None,
        height=size[1] if size else None,
        divisor=transform.get("size_divisor"),
        square=square,
        value=tuple(map(float, value)) if isinstance(value, list | tuple) else (float(value),),
    )


def _preprocessor(preprocessor: Transform) -> list[Step]:
    """mmpretrain's and mmseg's data preprocessors: channels reversed, then (x − mean) / std, then padding."""
    reverse = any(preprocessor.get(key, False) for key in ("to_rgb", "bgr_to_rgb", "rgb_to_bgr"))
    # Without a mean nothing is normalised, and (x − 0) / 1 leaves a float32 as it is.
    plain = preprocessor.get("mean") is None
    mean, std = ([0.0] * 3, [1.0] * 3) if plain else (preprocessor["mean"], preprocessor["std"])
    steps: list[Step] = [Normalize(mean=tuple(mean), std=tuple(std), reverse_channels=bool(reverse))]
    # mmseg pads by `test_cfg` and says `pad_val`.
    test = preprocessor.get("test_cfg") or {}
    value = (float(preprocessor.get("pad_value", preprocessor.get("pad_val", 0))),)
    divisor, size = test.get("size_divisor", preprocessor.get("pad_size_divisor", 1)), test.get("size")
    if size:
        steps.append(Pad(height=size[0], width=size[1], value=value))
    elif divisor and divisor > 1:
        steps.append(Pad(divisor=divisor, value=value))
    return steps


def _only(transform: Transform, **allowed: Any) -> None:
    """Refuse an option whose value is other than the one the runtimes repeat."""
    for key, value in allowed.items():
        if transform.get(key, value) != value:
            raise UsageError(
                f"the test pipeline's {transform['type']} has {key}={transform[key]!r}; the runtimes repeat only {key}={value!r}"
            )


_TRANSLATORS: dict[str, Callable[[Transform], Step]] = {
    "LoadImageFromFile": _load,
    "Resize": _resize,
    "ResizeEdge": _resize_edge,
    "CenterCrop": _center_crop,
    "Pad": _pad,
}
#: Transforms that do not change the image.
_IGNORED = ("PackInputs", "PackSegInputs", "PackDetInputs", "LoadAnnotations")
