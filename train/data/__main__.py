"""`python -m train.data`: prepare a data set."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from train.cli import finish, run
from train.data import prepare, sources
from train.data.summary import summary

EXAMPLES = """
examples:
  python -m train.data digits
  python -m train.data imagefolder --from ~/photos --out work/data/photos
  python -m train.data labelme --from ~/labelled --out work/data/labelled
  python -m train.data via --from ~/balloon --out work/data/balloon
  python -m train.data flowers --from ~/flower_photos    (no download)

written to --out:
  classification: train/<class>/*, val/<class>/*, classes.txt, train.txt, val.txt
  segmentation: train/*, val/*, labels/{train,val}/*.png, labels/{train,val}.txt, labels/classes.json
  detection: train/*, val/*, annotations/instances_{train,val}.json
  and dataset.json, SHA256SUMS. python -m train.data.look draws a contact sheet of it.
  The split is 8:2 a class unless the source brings its own. Running again does nothing while nothing changed.
"""


def parser() -> argparse.ArgumentParser:
    """The command line, with every source and its summary."""
    lines = [f"  {name:14}{source.summary}" for name, source in sorted(sources().items())]
    result = argparse.ArgumentParser(
        prog="python -m train.data",
        description="Prepare labelled images for training: check, split, write one standard layout.",
        epilog="\n".join(["sources:", *lines, EXAMPLES]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("name", metavar="NAME", help="a source, see below")
    result.add_argument("--from", dest="origin", type=Path, metavar="DIR", help="local folder that holds the images")
    result.add_argument("--out", type=Path, metavar="DIR", help="folder to write (default: work/data/NAME)")
    result.add_argument("--seed", type=int, default=0, help="of the split and of everything random (default: 0)")
    result.add_argument("--skip-bad", action="store_true", help="leave unreadable images out instead of stopping")
    result.add_argument("--json", action="store_true", help="one JSON object on stdout")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare what the command line asks for and report it."""
    arguments = parser().parse_args(argv)
    out = arguments.out or Path("work", "data", arguments.name)
    made = prepare(arguments.name, out, origin=arguments.origin, seed=arguments.seed, skip_bad=arguments.skip_bad)
    trainable = made.images["train"] > 0
    return finish(
        asdict(made),
        as_json=arguments.json,
        lines=summary(made),
        next_command=sources()[made.source].next_command.format(out=out) if trainable else None,
    )


if __name__ == "__main__":
    sys.exit(run(main))
