"""Bundles with more than one graph."""

import hashlib
import json
from pathlib import Path

import onnx

from slipway_runtime import manifest as m


def add_graph(bundle: Path, name: str, graph: onnx.ModelProto) -> Path:
    """Put another graph into a bundle, and its hash into the manifest."""
    content = graph.SerializeToString()
    (bundle / name).write_bytes(content)
    raw = json.loads((bundle / m.FILE_NAME).read_text())
    raw["files"][name] = hashlib.sha256(content).hexdigest()
    (bundle / m.FILE_NAME).write_text(json.dumps(raw))
    return bundle / name
