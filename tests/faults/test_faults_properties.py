"""Any values at all: what holds for manifests, masks, polygons and colours."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from pycocotools import mask as coco_mask
from tiny_bundles import build_manifest, detector_manifest, segmenter_manifest

from slipway_runtime import draw
from slipway_runtime import manifest as m
from slipway_runtime import masks as runtime
from slipway_runtime.errors import BundleError
from train.data import instances, label_maps
from train.data.label_maps import Class
from train.data.legend import Legend, read_legend
from train.data.mask_files import read_mask
from train.data.shapes import Shape, cover, outline
from train.errors import InputError

#: The same examples in every run, and no more than these.
bounded = settings(max_examples=80, deadline=None, derandomize=True, database=None)
#: For controls: the first example that shows the damage, which need not be the smallest.
first = settings(bounded, max_examples=2000, phases=[Phase.generate])

HEIGHT, WIDTH = 20, 24
FINITE = st.floats(allow_nan=False, allow_infinity=False)
PIXELS = st.integers(1, 1 << 16)
COLOUR = st.tuples(*[st.integers(0, 255)] * 3)
CHANNELS = st.tuples(FINITE) | st.tuples(FINITE, FINITE, FINITE)
POSITIVE = FINITE.filter(lambda value: value > 0)
DIVISORS = st.tuples(POSITIVE) | st.tuples(POSITIVE, POSITIVE, POSITIVE)
INTERPOLATION = st.sampled_from(["nearest", "bilinear", "bicubic", "area", "lanczos"])
BEFORE = st.one_of(
    st.builds(m.Resize, width=PIXELS, height=PIXELS, keep_ratio=st.booleans(), interpolation=INTERPOLATION),
    st.builds(m.ResizeEdge, size=PIXELS, edge=st.sampled_from(["short", "long"]), interpolation=INTERPOLATION),
    st.builds(m.Pad, divisor=PIXELS, value=CHANNELS),
)
AFTER = st.builds(m.Pad, width=PIXELS, height=PIXELS, value=CHANNELS) | st.builds(m.Pad, square=st.just(True))
NORMALIZE = st.builds(m.Normalize, mean=CHANNELS, std=DIVISORS, reverse_channels=st.booleans())
TASKS: list[tuple[Callable[..., m.Manifest], Any]] = [
    (build_manifest, st.builds(m.ClassificationOutput, topk=st.integers(1, (1 << 63) - 1))),
    (segmenter_manifest, st.builds(m.SegmentationOutput, align_corners=st.booleans())),
    (
        detector_manifest,
        st.builds(m.DetectionOutput, clip=st.booleans(), score_threshold=st.floats(0, 1, exclude_max=True)),
    ),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FINITE | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def manifests(draw_: st.DrawFn) -> m.Manifest:
    make, postprocess = draw_(st.sampled_from(TASKS))
    steps = [m.Decode(), *draw_(st.lists(BEFORE, max_size=3))]
    if draw_(st.booleans()):
        steps += [draw_(NORMALIZE), *draw_(st.lists(AFTER, max_size=1))]
    return make(
        name=draw_(st.text()),
        classes=tuple(draw_(st.lists(st.text(), min_size=4, max_size=4))),
        palette=tuple(draw_(st.lists(COLOUR, min_size=4, max_size=4))),
        preprocess=tuple(steps),
        postprocess=draw_(postprocess),
        tools=draw_(st.dictionaries(st.text(), st.text(), max_size=3)),
    )


@st.composite
def altered(draw_: st.DrawFn) -> str:
    """A manifest with another value in one place."""
    content = json.loads(draw_(manifests()).to_json())
    here = content
    while True:
        key = draw_(st.sampled_from(sorted(here) if isinstance(here, dict) else range(len(here))))
        if not isinstance(here[key], dict | list) or not here[key] or draw_(st.booleans()):
            break
        here = here[key]
    here[key] = draw_(JSON)
    return json.dumps(content)


@pytest.mark.fault(
    row="any-manifest",
    fault="any manifest, written and read",
    sees="the same manifest",
    code=None,
    intact="every name and every number, to its last bit",
)
@bounded
@given(manifests())
def test_a_manifest_is_read_as_it_was_written(written: m.Manifest) -> None:
    assert m.parse(written.to_json(), "here") == written
    assert m.parse(written.to_json(), "here").to_json() == written.to_json()


@pytest.mark.control(row="any-manifest")
def test_control_six_digits_of_a_number_are_another_manifest() -> None:
    def lossy(written: m.Manifest) -> bool:
        content = json.loads(written.to_json(), parse_float=lambda text: float(f"{float(text):.6g}"))
        return m.parse(json.dumps(content), "here") != written

    find(manifests(), lossy, settings=first)


@pytest.mark.fault(
    row="any-altered-manifest",
    fault="any other value in any place of a manifest",
    sees="manifest.json: FIELD: what was expected; export again",
    code=3,
    intact="a manifest that is valid too, or one line",
)
@bounded
@given(altered())
def test_an_altered_manifest_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        m.parse(text, "here")
    except BundleError as error:
        said = str(error)
    else:
        return
    assert said.startswith("here: ")
    assert len(said.splitlines()) == 1


@pytest.mark.control(row="any-altered-manifest")
def test_control_pydantic_tells_its_own_story() -> None:
    def told(text: str) -> bool:
        try:
            m.Manifest.model_validate_json(text)
        except ValueError as error:
            return not isinstance(error, BundleError) and len(str(error).splitlines()) > 1
        return False

    find(altered(), told, settings=first)


MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40))


@pytest.mark.fault(
    row="any-mask",
    fault="any mask as COCO's run lengths, compressed or not",
    sees="the same mask",
    code=None,
    intact="every pixel, and the area",
)
@bounded
@given(MASKS)
def test_run_lengths_hold_every_pixel(mask: np.ndarray) -> None:
    plain = {"size": list(mask.shape), "counts": runtime.run_lengths(mask)}
    for rle in (instances.encode(mask), instances.run_lengths(plain, *mask.shape)):
        assert np.array_equal(coco_mask.decode(rle).astype(bool), mask)
        assert coco_mask.area(rle) == mask.sum()
        assert instances.instance(rle, 1, 1)["area"] == mask.sum()


@pytest.mark.control(row="any-mask")
def test_control_row_by_row_is_another_mask() -> None:
    def other(mask: np.ndarray) -> bool:
        rle = {"size": list(mask.shape), "counts": runtime.run_lengths(np.ascontiguousarray(mask.T))}
        return not np.array_equal(coco_mask.decode(instances.run_lengths(rle, *mask.shape)).astype(bool), mask)

    find(MASKS, other, settings=first)


FAR = st.floats(-50, 80)
POLYGONS = st.lists(st.tuples(FAR, FAR), min_size=3, max_size=8)
EDGES = st.tuples(st.integers(-30, 50), st.integers(-30, 50)).map(sorted)


@pytest.mark.fault(
    row="any-polygon",
    fault="any polygon, also beyond its image",
    sees="nothing, or a warning that names it",
    code=None,
    intact="what is inside the image, exactly",
)
@bounded
@given(POLYGONS, EDGES, EDGES)
def test_polygons_are_cut_to_the_image(points: list[tuple[float, float]], across: list[int], down: list[int]) -> None:
    cut = outline(Shape(1, "any", "polygon", tuple(points)), HEIGHT, WIDTH)
    assert all(0 <= x <= WIDTH for x in cut[0::2])
    assert all(0 <= y <= HEIGHT for y in cut[1::2])
    pairs = tuple(zip(cut[0::2], cut[1::2], strict=True))
    assert outline(Shape(1, "any", "polygon", pairs), HEIGHT, WIDTH) == cut, "what is inside stays as it is"
    expected = np.zeros((HEIGHT, WIDTH), bool)
    (left, right), (top, bottom) = across, down
    expected[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
    rectangle = Shape(1, "any", "rectangle", ((left, top), (right, bottom)))
    assert np.array_equal(coco_mask.decode(cover(rectangle, HEIGHT, WIDTH)).astype(bool), expected)


@pytest.mark.control(row="any-polygon")
def test_control_a_polygon_that_is_not_cut_covers_other_pixels() -> None:
    def differs(points: list[tuple[float, float]]) -> bool:
        naive = coco_mask.frPyObjects([[value for point in points for value in point]], HEIGHT, WIDTH)[0]
        ours = cover(Shape(1, "any", "polygon", tuple(points)), HEIGHT, WIDTH)
        return not np.array_equal(coco_mask.decode(naive), coco_mask.decode(ours))

    find(POLYGONS, differs, settings=first)


LABELS = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 3))


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("colours") / "labels.png"


def painted(labels: np.ndarray, colours: list[tuple[int, int, int]]) -> np.ndarray:
    return np.array(colours, np.uint8)[labels]


@pytest.mark.fault(
    row="any-colours",
    fault="any label map in any four colours",
    sees="the same labels · two classes have the colour (…); colours must differ",
    code=3,
    intact="every label, from a coloured mask, through an indexed one, to the drawing",
)
@bounded
@given(labels=LABELS, colours=st.lists(COLOUR, min_size=4, max_size=4, unique=True))
def test_colours_hold_every_label(file: Path, labels: np.ndarray, colours: list[tuple[int, int, int]]) -> None:
    classes = tuple(Class(str(place), colour) for place, colour in enumerate(colours))
    Image.fromarray(painted(labels, colours)).save(file)
    read = read_mask(file, Legend(classes, coloured=True))
    label_maps.save(file, read, classes)
    assert np.array_equal(label_maps.load(file), labels)
    assert np.array_equal(read_mask(file, Legend(classes, coloured=True)), labels), "its palette is the legend's"
    drawn = draw.overlay(np.zeros((*labels.shape, 3), np.uint8), labels, colours, 1.0)
    assert np.array_equal(drawn[..., ::-1], painted(labels, colours))


@pytest.mark.control(row="any-colours")
def test_control_equal_colours_lose_labels_and_are_refused(file: Path) -> None:
    equal = [(9, 9, 9), (9, 9, 9), (1, 2, 3), (4, 5, 6)]
    classes = tuple(Class(str(place), colour) for place, colour in enumerate(equal))

    def lost(labels: np.ndarray) -> bool:
        Image.fromarray(painted(labels, equal)).save(file)
        return not np.array_equal(read_mask(file, Legend(classes, coloured=True)), labels)

    find(LABELS, lost, settings=first)
    (file.parent / "classes.txt").write_text("".join(f"{i} {r} {g} {b}\n" for i, (r, g, b) in enumerate(equal)))
    with pytest.raises(InputError, match="two classes have the colour"):
        read_legend(file.parent)
