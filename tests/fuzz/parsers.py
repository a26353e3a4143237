"""Any file at all is what a parser reads, or its own error: atheris tries to find another one. `make fuzz-python` runs it.

    python tests/fuzz/parsers.py TARGET [libFuzzer's options] [CORPUS]

Beside bytes, JSON is changed as JSON: another value in one place. Exit codes: 0 nothing was found · 4 atheris is missing ·
another one: libFuzzer's, after the traceback and the file that leads to it.
"""

import importlib
import json
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "deploy" / "runtime")]

try:
    import atheris
except ImportError:
    print("error: atheris is missing; its wheels are for Linux on x86: make setup installs it there", file=sys.stderr)
    sys.exit(4)

with atheris.instrument_imports(include=["train.data", "slipway_runtime.manifest"]):
    from slipway_runtime import manifest
    from slipway_runtime.errors import BundleError
    from train.data import coco_files, labelme_files, shapes, via_files
    from train.errors import InputError

HEIGHT, WIDTH = 20, 24
SQUARE = [[4, 4], [12, 4], [12, 12], [4, 12]]
SEEDS: dict[str, list[Any]] = {
    "manifest": [json.loads(path.read_text()) for path in (ROOT / "deploy/native/fuzz/seeds/manifest").glob("*.json")],
    "coco": [
        {
            "images": [{"id": 9, "file_name": "a.png", "width": WIDTH, "height": HEIGHT}],
            "annotations": [
                {"id": 1, "image_id": 9, "category_id": 3, "bbox": [4, 4, 8, 8], "area": 64.5, "iscrowd": 0},
                {
                    "id": 2,
                    "image_id": 9,
                    "category_id": 3,
                    "bbox": [4, 4, 8, 8],
                    "segmentation": [[4, 4, 12, 4, 4, 12]],
                },
                {
                    "id": 3,
                    "image_id": 9,
                    "category_id": 3,
                    "bbox": [0, 0, 2, 15],
                    "segmentation": {"size": [HEIGHT, WIDTH], "counts": [0, 30, 450]},
                },
            ],
            "categories": [{"id": 3, "name": "cat"}],
        }
    ],
    "via": [
        {
            "a.png1": {
                "filename": "a.png",
                "regions": [
                    {"shape_attributes": drawn, "region_attributes": {"kind": "cat"}}
                    for drawn in (
                        {"name": "polygon", "all_points_x": [4, 12, 4], "all_points_y": [4, 4, 12]},
                        {"name": "rect", "x": 2, "y": 3, "width": 8, "height": 4},
                        {"name": "circle", "cx": 12, "cy": 10, "r": 6},
                        {"name": "ellipse", "cx": 12, "cy": 10, "rx": 9, "ry": 4, "theta": 0.3},
                    )
                ],
            }
        }
    ],
    "labelme": [
        {
            "imagePath": "a.png",
            "imageHeight": HEIGHT,
            "imageWidth": WIDTH,
            "shapes": [
                {"label": "cat", "points": SQUARE, "shape_type": "polygon", "group_id": None},
                {"label": "dog", "points": SQUARE[:2], "shape_type": "circle", "group_id": 1},
            ],
        }
    ],
}
SEEDS["planted"] = SEEDS["labelme"]
#: What is put in a value's place, beside what the file holds elsewhere.
JUNK: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    0.5,
    1e300,
    10**400,
    float("nan"),
    "",
    "x",
    "\n",
    [],
    {},
    [[]],
    [0],
    {"": 0},
)


def read_manifest(path: Path) -> None:
    """A manifest, or a BundleError in one line."""
    try:
        manifest.parse(path.read_bytes().decode("utf-8", "replace"), "fuzzed")
    except BundleError as error:
        said = str(error)
        if not said.startswith("fuzzed: ") or len(said.splitlines()) != 1:
            raise AssertionError(f"not one line: {said!r}") from error


def read_coco(path: Path) -> None:
    """Annotations and the objects of each image, or an InputError."""
    try:
        found = coco_files.read_annotations(path, path.parent)
    except InputError:
        return
    for entries in found.of_image.values():
        coco_files.objects(entries, HEIGHT, WIDTH)


def read_via(path: Path) -> None:
    """Regions that can be drawn and their class, or a ValueError."""
    try:
        marked = via_files.read_via(path) or []
        naming = via_files.naming_attribute(attributes for each in marked for _, attributes in each.regions)
        for each in marked:
            for _, attributes in each.regions:
                via_files.class_of(attributes, naming or "")
    except ValueError:
        return
    for each in marked:
        _draw(tuple(shape for shape, _ in each.regions))


def read_labelme(path: Path) -> None:
    """Shapes that can be drawn, or a ValueError."""
    try:
        found = labelme_files.read_labelling(path)
    except ValueError:
        return
    if found:
        _draw(found.shapes)


def read_planted(path: Path) -> None:
    """The control, a parser with a fault: it forgets that a height may be missing."""
    try:
        found = labelme_files.read_labelling(path)
    except ValueError:
        return
    if found and found.shapes:
        json.loads(path.read_text())["imageHeight"]


def _draw(drawn: tuple[shapes.Shape, ...]) -> None:
    shapes.instances(drawn, {shape.label: 1 for shape in drawn}, 1, HEIGHT, WIDTH)


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Another value in one place of a JSON text, or libFuzzer's own change of bytes."""
    chance = random.Random(seed)
    try:
        content = json.loads(data)
        here, key = chance.choice(_places(content))
    except (ValueError, IndexError, RecursionError):
        return atheris.Mutate(data, max_size)
    if chance.random() < 0.1:
        return atheris.Mutate(data, max_size)
    if chance.random() < 0.2:
        del here[key]
    else:
        other, place = chance.choice(_places(content))
        here[key] = chance.choice([*JUNK, other[place]])
    try:
        return json.dumps(content).encode()[:max_size]
    except (ValueError, RecursionError):  # a value put into itself
        return data


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every place of a JSON value: what holds it, and its key or index there."""
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [place for key in keys for place in ((value, key), *_places(value[key]))]


TARGETS: dict[str, Callable[[Path], None]] = {
    "manifest": read_manifest,
    "coco": read_coco,
    "via": read_via,
    "labelme": read_labelme,
    "planted": read_planted,
}


def main() -> None:
    """Fuzz the target that the first argument names; the other arguments are libFuzzer's."""
    program, name, *options = sys.argv
    importlib.import_module("pycocotools.mask")  # before the first input, which would otherwise be called slow
    with tempfile.TemporaryDirectory() as folder:
        seeds = Path(folder, "seeds")
        seeds.mkdir()
        for number, content in enumerate(SEEDS[name]):
            (seeds / str(number)).write_text(json.dumps(content))
        file = Path(folder, "fuzzed.json")

        def test(data: bytes) -> None:
            file.write_bytes(data)
            TARGETS[name](file)

        atheris.Setup([program, "-max_len=20000", *options, str(seeds)], test, custom_mutator=mutate)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
