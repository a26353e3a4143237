"""Both runtimes read the same manifests and refuse the same, field by field; whatever one of them refuses is one line."""

import copy
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from manifest_cases import BROKEN, READ, REFUSED
from tiny_bundles import (
    build_detector,
    build_graph,
    build_manifest,
    build_segmenter,
    detector_manifest,
    save,
    segmenter_manifest,
    write_bundle,
)

import slipway_runtime
from slipway_runtime import manifest as m
from slipway_runtime.errors import BundleError

Infer = Callable[..., "subprocess.CompletedProcess[str]"]
Json: TypeAlias = Any
#: A field's place in a manifest.
Place = tuple[str | int, ...]

DETS = np.array([[8, 8, 24, 24, 0.9], [32, 0, 64, 64, 0.5]], np.float32)
TASKS = ("classification", "segmentation", "detection")


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle a task, and an image."""
    root = tmp_path_factory.mktemp("bundles")
    masks = np.ones((2, 7, 7), np.float32)
    detector = build_detector(DETS, np.array([1, 2]), masks)
    return {
        "image": save(root / "red.png", np.full((40, 30, 3), (0, 0, 255), np.uint8)),
        "classification": write_bundle(root / "classifier", build_graph(), build_manifest()),
        "segmentation": write_bundle(root / "segmenter", build_segmenter(), segmenter_manifest()),
        "detection": write_bundle(root / "detector", detector, detector_manifest((7, 7))),
    }


class Readers:
    """The two runtimes before one bundle's folder, whose manifest is changed from case to case."""

    def __init__(self, bundle: Path, image: Path, ort_infer: Infer) -> None:
        self.bundle, self.image, self.ort_infer = bundle, image, ort_infer
        self.file = bundle / m.FILE_NAME

    def python(self) -> tuple[int, str]:
        """Exit code and what is said, or predicted."""
        try:
            model = slipway_runtime.load(self.bundle)
        except BundleError as error:
            return error.exit_code, str(error)
        return 0, json.dumps(model(self.image)[0].to_dict())

    def native(self) -> tuple[int, str]:
        """Exit code and what is said, or predicted."""
        done = self.ort_infer(self.bundle, self.image, "--json", "--threads", 1, "--workers", 1)
        return done.returncode, done.stderr if done.returncode else done.stdout

    def expect_refusal(self, field: str) -> None:
        code, said = self.python()
        assert (code, str(self.file) in said) == (3, True), said
        assert field in said
        code, said = self.native()
        assert code == 3, said
        assert said.startswith(f"error: {self.file}: ")
        assert said.count("\n") == 1
        assert len(said) < 1000
        assert field in said

    def expect_same_prediction(self) -> None:
        (code, expected), (native_code, found) = self.python(), self.native()
        assert (code, native_code) == (0, 0), f"{expected}\n{found}"
        given = json.loads(found)
        assert given.pop("image") == str(self.image)
        assert given == json.loads(expected)


@pytest.fixture
def readers(bundles: dict[str, Path], ort_infer: Infer) -> Iterator[Callable[[str], Readers]]:
    """Readers of a task's bundle, whose manifest is intact again after the test."""
    intact = {task: (bundles[task] / m.FILE_NAME).read_bytes() for task in TASKS}
    yield lambda task: Readers(bundles[task], bundles["image"], ort_infer)
    for task, content in intact.items():
        (bundles[task] / m.FILE_NAME).write_bytes(content)


def changed(manifest: Json, place: Place, value: Json) -> Json:
    """A copy with one value set; `...` removes it."""
    manifest = copy.deepcopy(manifest)
    target = manifest
    for part in place[:-1]:
        target = target[part]
    if value is ...:
        del target[place[-1]]
    else:
        target[place[-1]] = value
    return manifest


def places(value: Json, place: Place = ()) -> Iterator[Place]:
    """Places of values, objects and lists too; of a list of alike values the first."""
    if place:
        yield place
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in entries:
        if isinstance(value, dict) or key == 0 or isinstance(each, dict):
            yield from places(each, (*place, key))


def short(value: Json) -> str:
    """A case's name."""
    return repr(value)[:40].encode("ascii", "backslashreplace").decode()


def place_of(path: str) -> Place:
    """`preprocess/1/width`, numbers as numbers."""
    return tuple(int(part) if part.isdecimal() else part for part in path.split("/"))


@pytest.mark.parametrize("task", TASKS)
def test_intact_manifests_are_read(readers: Callable[[str], Readers], task: str) -> None:
    """The control of all that follows: what is refused there is refused for the one change."""
    readers(task).expect_same_prediction()


JUNK: list[Json] = [..., None, True, 1, 3.0, "1", [], {}, float("nan"), "a\nb"]


@pytest.mark.parametrize("task", TASKS)
def test_no_value_is_read_by_one_alone(readers: Callable[[str], Readers], task: str) -> None:
    """Each value of a manifest replaced by each of many others: all types, and edges of the numbers'."""
    both = readers(task)
    intact = json.loads(both.file.read_text())
    differences, refused, read = [], 0, 0
    for place in places(intact):
        for value in JUNK:
            both.file.write_text(json.dumps(changed(intact, place, value)))
            try:
                m.read(both.bundle)
                expected = True
            except BundleError:
                expected = False
            code, said = both.native()
            # What the reader refuses names the file; what does not fit the graph names the bundle.
            found = not said.startswith(f"error: {both.file}: ")
            if expected != found or code not in (0, 3) or (not found and said.count("\n") != 1):
                differences.append((place, value, expected, code, said))
            refused, read = refused + (not found), read + found
    assert not differences
    assert refused > 5 * read > 100, "the control: most are refused, some are read"


@pytest.mark.parametrize("task", TASKS)
def test_no_object_takes_a_further_field(readers: Callable[[str], Readers], task: str) -> None:
    both = readers(task)
    intact = json.loads(both.file.read_text())
    objects = [place for place in [(), *places(intact)] if isinstance(_at(intact, place), dict)]
    free = [("files",), ("tools",)]  # names of files and tools are no fields
    for place in objects:
        both.file.write_text(json.dumps(changed(intact, (*place, "surprise"), "0" * 64)))
        both.expect_same_prediction() if place in free else both.expect_refusal("surprise")
    assert len(objects) >= 9


def _at(value: Json, place: Place) -> Json:
    for part in place:
        value = value[part]
    return value


@pytest.mark.parametrize(
    ("task", "path", "value", "field"), [(task, *case) for task, cases in REFUSED.items() for case in cases], ids=short
)
def test_both_refuse(readers: Callable[[str], Readers], task: str, path: str, value: Json, field: str) -> None:
    both = readers(task)
    both.file.write_text(json.dumps(changed(json.loads(both.file.read_text()), place_of(path), value)))
    both.expect_refusal(field)


@pytest.mark.parametrize(
    ("task", "path", "value"), [(task, *case) for task, cases in READ.items() for case in cases], ids=short
)
def test_both_read(readers: Callable[[str], Readers], task: str, path: str, value: Json) -> None:
    both = readers(task)
    both.file.write_text(json.dumps(changed(json.loads(both.file.read_text()), place_of(path), value)))
    both.expect_same_prediction()


@pytest.mark.parametrize("field", [("inputs", 0, "shape", 0), ("postprocess", "topk")], ids=["size", "topk"])
@pytest.mark.parametrize("number", [2**63, 10**19, 10**30])
def test_integers_of_more_than_63_bits(readers: Callable[[str], Readers], field: tuple[Any, ...], number: int) -> None:
    both = readers("classification")
    intact = json.loads(both.file.read_text())
    both.file.write_text(json.dumps(changed(intact, field, number)))
    assert (both.python()[0], both.native()[0]) == (3, 3)


@pytest.mark.parametrize("how", BROKEN)
def test_both_refuse_what_is_no_json_of_a_manifest(readers: Callable[[str], Readers], how: str) -> None:
    both = readers("classification")
    broken = BROKEN[how](both.file.read_bytes())
    assert broken != both.file.read_bytes()
    both.file.write_bytes(broken)
    both.expect_refusal("")


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.replace(b" ", b"\t") + b" \t\r\n",
        lambda text: json.dumps(json.loads(text)).encode(),
        lambda text: json.dumps(json.loads(text), sort_keys=True, indent=1).encode(),
        lambda text: text.replace(b"tiny", rb"\u0074\ud83d\udc26\/"),
        lambda text: text.replace(b"127.5", b"1275e-1"),
        lambda text: text.replace(b"127.5", b"127.500000000000000000000000000000000000000000001"),
        lambda text: text.replace(b'"name": "tiny"', b'"name": 1, "name": "tiny"'),
        lambda text: text.replace(b'"width": 16', b'"width": 1, "width": 16'),
        lambda text: text.replace(b'"op": "resize"', b'"op": "pad", "op": "resize"'),
    ],
    ids=["crlf", "tabs", "compact", "sorted", "escapes", "exponent", "digits", "name", "width", "op"],
)
def test_both_read_any_json_of_a_manifest(readers: Callable[[str], Readers], rewrite: Callable[[bytes], bytes]) -> None:
    both = readers("classification")
    rewritten = rewrite(both.file.read_bytes())
    assert rewritten != both.file.read_bytes()
    both.file.write_bytes(rewritten)
    both.expect_same_prediction()


def test_a_manifest_in_the_graph_is_read_alike(bundles: dict[str, Path], ort_infer: Infer, tmp_path: Path) -> None:
    graph = (bundles["classification"] / m.GRAPH_NAME).read_bytes()
    alone = tmp_path / "alone.onnx"
    alone.write_bytes(graph)
    assert ort_infer(alone, bundles["image"]).returncode == 0
    # As long as before: the graph's file is not written anew.
    alone.write_bytes(graph.replace(b'"topk": 2', b'"topk": 0'))
    assert alone.read_bytes() != graph
    done = ort_infer(alone, bundles["image"])
    with pytest.raises(BundleError, match=r"metadata: postprocess.*topk") as error:
        slipway_runtime.load(alone)
    assert done.returncode == error.value.exit_code
    assert f"{alone}: metadata: postprocess.topk" in done.stderr
