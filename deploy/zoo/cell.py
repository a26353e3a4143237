"""One cell of the zoo in a process of its own: `python -m deploy.zoo.cell MODEL static|dynamic [--list FILE]` → one JSON object.

A fresh process, so that no model inherits what another one registered, patched or counted, and a crash stays in its cell.
"""

import argparse
import contextlib
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deploy import zoo
from train import cli
from train.errors import SlipwayError


def run(line: zoo.Line, shape: zoo.Shape) -> dict[str, Any]:
    """Build, export and compare a model.

    Returns:
        The fields of `deploy.zoo.compare.Found`; `status` may also be "refused", with the reason.
    """
    from deploy.zoo import compare, models

    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="zoo-") as folder:
        try:
            reference = models.build(line, Path(folder))
            found = compare.compare(reference, shape, line.size, Path(folder), line.sizes)
        except SlipwayError as error:
            found = compare.Found(status="refused", reason=str(error))
    return {**found.model_dump(mode="json"), "total_seconds": round(time.monotonic() - started, 1)}


def main(argv: Sequence[str] | None = None) -> int:
    """Print the result as one line of JSON; logs go to stderr."""
    parser = argparse.ArgumentParser(prog="python -m deploy.zoo.cell", description=__doc__)
    parser.add_argument("model")
    parser.add_argument("shape", choices=zoo.SHAPES)
    parser.add_argument("--list", type=Path, default=zoo.LIST)
    arguments = parser.parse_args(argv)
    (line,) = zoo.select(zoo.read(arguments.list), arguments.model)
    with contextlib.redirect_stdout(sys.stderr):
        result = run(line, arguments.shape)
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
