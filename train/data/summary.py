"""A prepared set in lines for the person at the terminal."""

from train.data import SPLITS, WARNINGS, Prepared
from train.data.image_files import some


def summary(made: Prepared) -> list[str]:
    """What looks wrong with a set, a warning each, and last where it is and how much it holds."""
    counts = ", ".join(f"{made.images[split]} {split}" for split in SPLITS)
    verb = "current" if made.reused else "wrote"
    warnings = [
        f"warning: {len(lines)} {WARNINGS.get(kind, kind)}: {some(lines, '; ')}"
        for kind, lines in made.findings.items()
    ]
    return [*warnings, f"{verb}: {made.root} ({counts} images, {len(made.classes)} classes)"]
