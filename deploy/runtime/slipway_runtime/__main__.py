"""The command line: `python -m slipway_runtime BUNDLE FILE…`, or `slipway-runtime BUNDLE FILE…`."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from slipway_runtime import Manifest, Model, Prepared, Result, __version__, files, load, splash, tasks, video
from slipway_runtime import manifest as manifests
from slipway_runtime.errors import ImageError, SlipwayRuntimeError, UsageError
from slipway_runtime.files import Source
from slipway_runtime.sessions import DEVICES, ENGINES

#: A result and its image, uint8 H×W×3 BGR → the drawing, alike.
Draw: TypeAlias = Callable[[Result, NDArray[np.uint8]], NDArray[np.uint8]]

_EXAMPLES = """\
examples:
  python -m slipway_runtime work/digits/bundle seven.png
      seven.png  7 (0.998)  1 (0.001)  9 (0.001)
  python -m slipway_runtime work/streets/bundle photo.jpg --out drawn/
      photo.jpg  road 45.2 %  sky 30.1 %  car 4.0 %
      drawn/photo.jpg shows the classes in colour over the photo, drawn/photo.labels.png holds the label of each pixel
  python -m slipway_runtime work/streets/bundle drive.mp4 --out drawn/ --opacity 0.7
      drawn/drive.mp4, with each frame's classes in colour and the sound of the original
  python -m slipway_runtime work/balloons/bundle party.jpg --score 0.7 --out drawn/
      party.jpg  balloon 0.98  balloon 0.95
      drawn/party.jpg shows boxes, and masks where the model has any
  python -m slipway_runtime work/balloons/bundle party.mp4 --splash --out drawn/
      drawn/party.mp4 is in grey, but for the balloons; interrupted, the same command goes on where it stopped
  python -m slipway_runtime work/digits/bundle photos/ --batch 16 --json > predictions.jsonl
      a folder with all its subfolders, one JSON object a line
  python -m slipway_runtime work/digits/bundle/model.onnx seven.png --device cuda
      a bare graph, which carries its manifest, on an NVIDIA GPU
  python -m slipway_runtime work/streets/bundle photo.jpg --engine tensorrt --device cuda --precision fp16
      the bundle's TensorRT plan for this machine, which `make engine-seg EXP=… PRECISION=fp16` builds

exit codes: 0 all predicted · 2 wrong arguments · 3 unreadable bundle, image or video (the other files are still
done) · 4 engine or device missing · 5 the graph gave values that are no finite numbers
"""

#: Options that make sense for some tasks only, and which field of their output each sets.
_TASKS_OF = {"topk": ["classification"], "opacity": ["segmentation", "detection"], "score": ["detection"]}
_SETS = {"topk": "topk", "score": "score_threshold"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; errors meant for the user become one line on stderr."""
    try:
        return _predict(_parser().parse_args(argv))
    except SlipwayRuntimeError as error:
        _say(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt as done:
        _say(": ".join(filter(None, ("interrupted", str(done)))))
        return 130
    except BrokenPipeError:  # `… | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        _say(f"error: {error}")
        return ImageError.exit_code


def entry() -> None:
    """The console script."""
    # File names may hold what the terminal's encoding lacks; OpenCV's own warnings would repeat our errors.
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    sys.exit(main())


def _predict(args: argparse.Namespace) -> int:
    sources = files.find(args.files, videos=args.out is not None)
    model = _load(args)
    draw = _drawing(model.manifest, args)
    if args.out:
        files.check_targets(sources, args.out, tasks.beside(model.manifest))
    done = failed = 0
    try:
        for read in _predictions(model, sources, draw, args):
            done, failed = done + read, failed + (not read)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"{done} of {len(sources)} files are done") from None
    if failed and len(sources) > 1:
        _say(f"error: {failed} of {len(sources)} files could not be read")
    if args.out:
        _say(f"wrote {len(sources) - failed} predictions below {args.out}")
    return ImageError.exit_code if failed else 0


def _load(args: argparse.Namespace) -> Model:
    model = load(args.bundle, device=args.device, threads=args.threads, precision=args.precision, engine=args.engine)
    for option, known in _TASKS_OF.items():
        if getattr(args, option) is not None and model.manifest.task not in known:
            raise UsageError(
                f"--{option} is for {' and '.join(known)}; {model.manifest.name} does {model.manifest.task}"
            )
    changed = {field: getattr(args, option) for option, field in _SETS.items() if getattr(args, option) is not None}
    if changed:
        output = model.manifest.postprocess.model_copy(update=changed)
        model = Model(model.manifest.model_copy(update={"postprocess": output}), model.session)
    return model


def _drawing(manifest: Manifest, args: argparse.Namespace) -> Draw:
    """How a result is drawn on its image."""
    if not args.splash:
        if args.kept:
            raise UsageError("--class says what stays in colour; add --splash")
        return lambda result, image: result.draw(image) if args.opacity is None else result.draw(image, args.opacity)
    if not args.out:
        raise UsageError("--splash draws; say where to with --out DIR")
    labels = splash.labels(manifest, args.kept)
    return lambda result, image: splash.splash(image, result.area(labels))


def _predictions(model: Model, sources: Sequence[Source], draw: Draw, args: argparse.Namespace) -> Iterator[bool]:
    """Predict on each file, images first; whether it could be read, as each is done."""
    yield from _predict_images(model, [source for source in sources if not source.is_video], draw, args)
    for source in sources:
        if source.is_video:
            yield _predict_video(model, source, draw, args)


def _predict_images(model: Model, images: Sequence[Source], draw: Draw, args: argparse.Namespace) -> Iterator[bool]:
    """Predict on image files, batch by batch; whether each could be read, once its line and drawing are written."""
    size = model.batch_size(args.batch)
    for start in range(0, len(images), size):
        read: list[tuple[Source, Prepared]] = []
        for source in images[start : start + size]:
            try:
                read.append((source, model.preprocess(source.path)))
            except ImageError as error:
                _say(f"error: {error}")
                yield False
        results = model.predict([prepared for _, prepared in read], size)
        for (source, _), result in zip(read, results, strict=True):
            _print({"image": str(source.path)}, result, args)
            if args.out:
                target = args.out / source.name
                files.write_image(target, draw(result, model.decode(source.path)))
                for ending, content in result.beside().items():
                    files.write(target.with_suffix(ending), content)
            yield True
        sys.stdout.flush()
        _progress(f"{min(start + size, len(images))}/{len(images)}", len(images) > 1)
    _progress("", len(images) > 1)


def _predict_video(model: Model, source: Source, draw: Draw, args: argparse.Namespace) -> bool:
    """Draw on each frame of a video; whether it could be read."""
    began, done = monotonic(), 0

    def transform(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        nonlocal done
        (result,) = model(frame)
        if args.json:
            _print({"video": str(source.path), "frame": done}, result, args)
        done += 1
        return draw(result, frame)

    def rate() -> float:
        return done / (monotonic() - began)

    def progress(frame: int, total: int | None) -> None:
        left = f", {int((total - frame) / rate()) // 60 + 1} min left" if total and done else ""
        _progress(f"{source.path}: {frame}/{total or '?'} frames, {rate():.1f} a second{left}")

    # Whoever wants every frame's numbers has no use for the frames of an interrupted run.
    key = None if args.json else _key(model, args)
    try:
        frames = video.process(source.path, args.out / source.name, transform, key=key, progress=progress)
    except ImageError as error:
        _say(f"error: {error}")
        return False
    earlier = f" ({frames - done} of them before an interruption)" if done < frames else ""
    _say(f"{source.path}: {frames} frames{earlier}, {rate():.1f} a second")
    return True


def _key(model: Model, args: argparse.Namespace) -> str:
    """All that what is drawn on a frame depends on."""
    graph = manifests.sha256(args.bundle) if args.bundle.is_file() else ""
    drawing = (args.opacity, args.splash, args.kept)
    engine = (model.session.name, model.session.device, args.precision)
    return repr((__version__, model.manifest.to_json(), graph, engine, drawing))


def _print(where: dict[str, str | int], result: Result, args: argparse.Namespace) -> None:
    """One result as a line on stdout."""
    print(json.dumps({**where, **result.to_dict()}) if args.json else f"{where['image']}  {result.line()}")


def _progress(text: str, wanted: bool = True) -> None:
    """Show how far the work is on a terminal's last line; an empty text removes it."""
    if wanted and sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _say(message: str) -> None:
    _progress("")
    print(message, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m slipway_runtime",
        description="Predict from a Slipway bundle. Results go to stdout, a line an image; all else to stderr.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "bundle", type=Path, metavar="BUNDLE", help="a bundle's folder, a bare model.onnx, or a bundle's plan"
    )
    parser.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="images, with --out videos too, or folders of them"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a line; of a video, one a frame")
    parser.add_argument("--topk", type=_positive, metavar="K", help="how many classes to show (default: the bundle's)")
    parser.add_argument("--batch", type=_positive, metavar="N", help="images at once (default: the graph's, else 1)")
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="where the graph runs (default: cpu)")
    parser.add_argument(
        "--precision", choices=manifests.PRECISIONS, default="fp32", help="which graph of the bundle (default: fp32)"
    )
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default=ENGINES[0],
        help="what runs it; tensorrt needs a plan (default: onnxruntime)",
    )
    parser.add_argument("--threads", type=_positive, metavar="N", help="CPU threads an operator (default: all cores)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write copies with the prediction drawn on them here")
    parser.add_argument(
        "--score", type=_share, metavar="F", help="show detections from here on (default: the bundle's)"
    )
    look = parser.add_mutually_exclusive_group()
    look.add_argument(
        "--opacity", type=_share, metavar="F", help="of classes' and masks' colours, 0 to 1 (default: 0.5)"
    )
    look.add_argument("--splash", action="store_true", help="draw all in grey but what was found")
    parser.add_argument(
        "--class", dest="kept", action="append", metavar="NAME", help="with --splash: what stays in colour; repeatable"
    )
    parser.add_argument("--version", action="version", version=f"slipway-runtime {__version__}")
    return parser


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got '{text}'")
    return int(text)


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got '{text}'")
    return share


if __name__ == "__main__":
    entry()
