"""The command line: `python -m slipway_runtime BUNDLE IMAGE…`, or `slipway-runtime BUNDLE IMAGE…`."""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from slipway_runtime import Model, __version__, load
from slipway_runtime.errors import ImageError, SlipwayRuntimeError, UsageError
from slipway_runtime.image import SUFFIXES
from slipway_runtime.sessions import DEVICES

_EXAMPLES = """\
examples:
  python -m slipway_runtime work/digits/bundle seven.png
      seven.png  7 (0.998)  1 (0.001)  9 (0.001)
  python -m slipway_runtime work/digits/bundle photos/ --batch 16 --json > predictions.jsonl
      a folder with all its subfolders, one JSON object a line
  python -m slipway_runtime work/digits/bundle photos/ --topk 1 --out drawn/
      copies of the images with the prediction drawn on them
  python -m slipway_runtime work/digits/bundle/model.onnx seven.png --device cuda
      a bare graph, which carries its manifest, on an NVIDIA GPU

exit codes: 0 all images predicted · 2 wrong arguments · 3 unreadable bundle or image (the other images are
still done) · 4 engine or device missing · 5 the graph gave values that are no finite numbers
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; errors meant for the user become one line on stderr."""
    try:
        return _predict(_parser().parse_args(argv))
    except SlipwayRuntimeError as error:
        _say(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        _say("interrupted")
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
    images = _images(args.images)
    if args.out:
        _check_targets(images, args.out)
    model = load(args.bundle, device=args.device, threads=args.threads)
    if args.topk:
        output = model.manifest.postprocess.model_copy(update={"topk": args.topk})
        model = Model(model.manifest.model_copy(update={"postprocess": output}), model.session)
    size = model.batch_size(args.batch)
    failed = 0
    for start in range(0, len(images), size):
        read: list[tuple[Path, Path, NDArray[np.float32]]] = []
        for path, name in images[start : start + size]:
            try:
                read.append((path, name, model.preprocess(path)))
            except ImageError as error:
                failed += 1
                _say(f"error: {error}")
        for (path, name, _), result in zip(read, model.predict([array for *_, array in read], size), strict=True):
            print(json.dumps({"image": str(path), **result.to_dict()}) if args.json else f"{path}  {result.line()}")
            if args.out:
                _write(args.out / name, result.draw(model.decode(path)))
        sys.stdout.flush()
        _progress(min(start + size, len(images)), len(images))
    if failed and len(images) > 1:
        _say(f"error: {failed} of {len(images)} images could not be read")
    if args.out:
        _say(f"wrote {len(images) - failed} images below {args.out}")
    return ImageError.exit_code if failed else 0


def _images(arguments: Sequence[Path]) -> list[tuple[Path, Path]]:
    """Each image with its name below `--out`: a folder's images keep their place in it."""
    found: list[tuple[Path, Path]] = []
    for path in arguments:
        if not path.is_dir():
            found.append((path, Path(path.name)))
            continue
        below = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
        if not below:
            raise ImageError(f"{path}: no images in this folder; expected files that end in {', '.join(SUFFIXES)}")
        found += [(file, file.relative_to(path)) for file in below]
    return found


def _check_targets(images: Sequence[tuple[Path, Path]], out: Path) -> None:
    """Refuse to write over an image that is read, or twice to one place."""
    sources = {path.resolve() for path, _ in images}
    taken: dict[Path, Path] = {}
    for path, name in images:
        target = (out / name).resolve()
        if target in sources:
            raise UsageError(f"--out {out} would overwrite {path}; give another folder")
        if target in taken:
            raise UsageError(f"--out {out}: {taken[target]} and {path} would both become {name}; predict them apart")
        taken[target] = path


def _write(target: Path, image: NDArray[np.uint8]) -> None:
    """Write an image, whole or not at all."""
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(cv2.imencode(target.suffix, image)[1].tobytes())
        temporary.replace(target)
    except (OSError, cv2.error) as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise UsageError(f"{target}: cannot be written ({' '.join(str(error).split())})")


def _progress(done: int, total: int) -> None:
    if total > 1 and sys.stderr.isatty():
        print(f"\r{done}/{total}", end="\n" if done == total else "", file=sys.stderr, flush=True)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m slipway_runtime",
        description="Predict from a Slipway bundle. Results go to stdout, a line an image; all else to stderr.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle's folder, or a bare model.onnx")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="image files, or folders of them")
    parser.add_argument("--json", action="store_true", help="print one JSON object a line")
    parser.add_argument("--topk", type=_positive, metavar="K", help="how many classes to show (default: the bundle's)")
    parser.add_argument("--batch", type=_positive, metavar="N", help="images at once (default: the graph's, else 1)")
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="where the graph runs (default: cpu)")
    parser.add_argument("--threads", type=_positive, metavar="N", help="CPU threads an operator (default: all cores)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write copies with the prediction drawn on them here")
    parser.add_argument("--version", action="version", version=f"slipway-runtime {__version__}")
    return parser


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got '{text}'")
    return int(text)


if __name__ == "__main__":
    entry()
