"""The manifest's JSON Schema: `python -m slipway_runtime.schema > docs/manifest.schema.json`."""

import json
import sys

from slipway_runtime.manifest import Manifest


def text() -> str:
    """The schema of `manifest.json`, indented, with a final newline."""
    return json.dumps(Manifest.model_json_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
