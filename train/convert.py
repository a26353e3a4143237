"""`python -m train.convert FOREIGN.pth OUT.safetensors`: a checkpoint's weights as a file that holds numbers only.

A checkpoint that holds more than tensors may run code when it is opened, and this opens it. `make convert` does so in a
container without a network, which sees that file and the folder to write to, and nothing else.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from train import checkpoint, cli
from train.errors import UsageError

EPILOG = """\
example:
  make convert CHECKPOINT=theirs.pth OUT=converted
  make export-cls CONFIG=mine.py CHECKPOINT=converted/theirs.safetensors

exit codes: 0 ok · 2 usage · 3 not a checkpoint, or no space to write
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the command line and convert."""
    parser = argparse.ArgumentParser(
        prog="python -m train.convert",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", type=Path, metavar="FOREIGN.pth")
    parser.add_argument("out", type=Path, metavar="OUT.safetensors")
    parser.add_argument(
        "--trust-checkpoint", action="store_true", help="yes, run whatever code the checkpoint holds, here and now"
    )
    arguments = parser.parse_args(argv)
    if arguments.out.suffix != checkpoint.SAFE:
        raise UsageError(f"{arguments.out}: expected a name that ends in {checkpoint.SAFE}")
    checkpoint.register()
    content = checkpoint.read(arguments.checkpoint, trust=arguments.trust_checkpoint)
    count = checkpoint.save_tensors(content["state_dict"], arguments.out)
    cli.say(f"converted: {arguments.out} ({count} tensors, nothing else)")
    cli.say(f"next: make export-cls|det|seg CONFIG=… CHECKPOINT={arguments.out}, or LOAD_FROM= to fine-tune")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
