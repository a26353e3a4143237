"""`python -m benchmarks run` on a segmenter: images of several sizes, windows, accuracy by class."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from colour_bench import Bench, write_segmenter

from benchmarks import brief, report, results
from slipway_runtime.manifest import Window
from train.data import label_maps
from train.experiment import Experiment

WINDOW = Window(height=6, width=6, stride_height=4, stride_width=4)


def test_rows_sizes_and_accuracy(pixels: Experiment, bench: Bench) -> None:
    code, found = bench(pixels, "batch_sizes=[1, 3]", "inputs=8")
    assert code == 0
    assert {row["status"] for row in found["rows"]} == {"ok"}
    sizes = {(row["batch"], row["boundary"]): row["sizes"] for row in found["rows"]}
    assert sizes[1, "model"] == sizes[1, "host"] == sizes[1, "e2e"]
    assert (sizes[1, "model"][0], sizes[1, "model"][-1], len(sizes[1, "model"])) == ([7, 9], [12, 9], 6)
    assert sizes[3, "model"] == [[12, 9]]
    (accuracy,) = found["accuracy"]
    assert accuracy["images"] == 8
    # Of each image's three stripes, green's first column is said to be blue, red's last one ignored.
    values = accuracy["values"]
    assert next(iter(values)) == "miou_percent"
    assert values["iou_percent/green"] < values["iou_percent/blue"] < values["iou_percent/red"] == 100
    assert values["acc_percent/green"] == 100
    assert values["miou_percent"] == pytest.approx(
        np.mean([values[f"iou_percent/{name}"] for name in ("blue", "green", "red")])
    )


def test_a_batch_that_no_size_fills_is_unavailable_except_end_to_end(pixels: Experiment, bench: Bench) -> None:
    code, found = bench(pixels, "batch_sizes=[1, 4]")
    assert code == 0
    status = {(row["batch"], row["boundary"]): row["status"] for row in found["rows"]}
    assert status == {
        **{(1, boundary): "ok" for boundary in ("model", "host", "e2e")},
        **{(4, "model"): "unavailable", (4, "host"): "unavailable", (4, "e2e"): "ok"},
    }
    rows = {(row["batch"], row["boundary"]): row for row in found["rows"]}
    assert "the validation set has no 4 images of one size" in rows[4, "model"]["reason"]
    assert rows[4, "e2e"]["reason"] is None
    assert rows[4, "e2e"]["throughput_ips"] > 0
    assert "no 4 images of one size" in (pixels.bench / "report.md").read_text()


def test_windows_are_no_images(pixels: Experiment, bench: Bench) -> None:
    whole = bench(pixels)[1]["accuracy"][0]["values"]
    write_segmenter(pixels, window=WINDOW)
    code, found = bench(pixels, "batch_sizes=[4]")
    assert code == 0
    rows = {row["boundary"]: row for row in found["rows"]}
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert [(rows[b]["unit"], rows[b]["throughput_ips"] is None) for b in ("model", "host", "e2e")] == [
        ("window", True),
        ("window", True),
        ("image", False),
    ]
    assert rows["model"]["sizes"] == [[6, 6]]
    assert found["accuracy"][0]["values"] == whole, "a pixel's class is its own here, in every window"
    stored = results.read(pixels.bench / "results.jsonl")
    assert "An image goes through the graph in windows" in report.render([stored])
    assert "6×6 windows" not in brief.render([stored]), "batch 1 was not measured"
    bench(pixels)
    assert "| 6×6 windows |" in brief.render([results.read(pixels.bench / "results.jsonl")])


def test_the_report_has_the_averages_in_the_table_and_the_classes_below(pixels: Experiment, bench: Bench) -> None:
    values = bench(pixels)[1]["accuracy"][0]["values"]
    header, _, *rows = [line for line in (pixels.bench / "report.md").read_text().splitlines() if line[:1] == "|"]
    assert "| mIoU % | mAcc % | aAcc % | mDice % | peak MiB |" in header
    assert all(f"| {values['miou_percent']:.2f} | {values['macc_percent']:.2f} |" in row for row in rows[:3])
    assert rows[3] == "| class | IoU % onnxruntime fp32 | Acc % onnxruntime fp32 | Dice % onnxruntime fp32 |"
    shown = [f"{values[f'{metric}_percent/green']:.2f}" for metric in ("iou", "acc", "dice")]
    assert rows[6] == f"| green | {' | '.join(shown)} |"
    line = next(
        line for line in brief.render([results.read(pixels.bench / "results.jsonl")]).splitlines() if "seg/" in line
    )
    assert f"| {values['miou_percent']:.2f} of 8 |" in line


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((12, 10), np.uint8), "2.png: the label map is 10×12, its image 9×12; prepare the set again"),
        (np.full((12, 9), 3, np.uint8), "2.png: label 3 is none of the bundle's 3 classes"),
        (None, "2.png: no readable label map"),
    ],
)
def test_a_label_map_that_does_not_fit_fails_the_cell(
    pixels: Experiment, bench: Bench, labels: np.ndarray | None, message: str
) -> None:
    path = Path(pixels.read().data["root"]) / "labels" / "val" / "2.png"
    if labels is None:
        path.unlink()
    else:
        label_maps.save(path, labels, label_maps.coloured(("blue", "green", "red")))
    code, found = bench(pixels)
    assert code == 6
    assert message in found["rows"][0]["reason"]


def test_a_fixed_batch(pixels: Experiment, bench: Bench) -> None:
    write_segmenter(pixels, batch=2)
    code, found = bench(pixels, "batch_sizes=[1, 2]")
    assert code == 0
    assert {(row["batch"], row["status"]) for row in found["rows"]} == {(1, "unavailable"), (2, "ok")}
    assert found["accuracy"][0]["images"] == 8


def test_an_image_that_cannot_be_read(pixels: Experiment, bench: Bench) -> None:
    path = Path(pixels.read().data["root"]) / "val" / "3.png"
    cv2.imwrite(str(path), np.zeros((9, 9, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:40])
    code, found = bench(pixels, "inputs=8")
    assert code == 6
    assert "3.png: not a" in found["rows"][0]["reason"]
