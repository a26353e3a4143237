"""The stand-in's plan: a header, a JSON of what was asked for, and the ONNX graph; a hash over all of it."""

import hashlib
import json
from typing import Any

from stand_in_gpu import seed

from ._api import VERSION

MAGIC = b"a plan of the stand-in, for tests only\n"


class Refused(Exception):
    """A plan that cannot be used here; the text is what is logged."""


def encode(asked: dict[str, Any], graph: bytes) -> bytes:
    """The plan's bytes."""
    head = json.dumps({"version": VERSION, "gpu": gpu(), **asked}).encode()
    body = len(head).to_bytes(8, "little") + head + graph
    return MAGIC + hashlib.sha256(body).digest() + body


def decode(plan: bytes, host_code: bool) -> tuple[dict[str, Any], bytes]:
    """What was asked for, and the graph.

    Raises:
        Refused: other bytes, or a plan for another version or another GPU.
    """
    digest, body = plan[len(MAGIC) : len(MAGIC) + 32], plan[len(MAGIC) + 32 :]
    if not plan.startswith(MAGIC) or hashlib.sha256(body).digest() != digest:
        raise Refused(
            "Error Code 1: Serialization (Serialization assertion magicTagRead == kMAGIC_TAG failed. Magic tag does not match)"
        )
    size = int.from_bytes(body[:8], "little")
    asked = json.loads(body[8 : 8 + size])
    compatible = asked["version_compatible"] and asked["version"].split(".")[0] == VERSION.split(".")[0]
    if asked["version"] != VERSION and not compatible:
        raise Refused(
            "Error Code 6: API Usage Error (The engine plan file is not compatible with this version of TensorRT, "
            f"expecting library version {VERSION} got {asked['version']}, please rebuild.)"
        )
    if asked["version_compatible"] and not host_code:
        raise Refused("Error Code 4: API Usage Error (version-compatible plan: engine_host_code_allowed is False)")
    here, there = gpu(), asked["gpu"]
    same = here["compute_capability"] == there["compute_capability"]
    fits = {"NONE": same, "SAME_COMPUTE_CAPABILITY": same, "AMPERE_PLUS": float(here["compute_capability"]) >= 8}
    if not fits[asked["hardware"]]:
        raise Refused(
            "Error Code 6: API Usage Error (The engine plan file is generated on an incompatible device, "
            f"expecting compute {here['compute_capability']} got compute {there['compute_capability']}, please rebuild.)"
        )
    return asked, body[8 + size :]


def gpu() -> dict[str, str]:
    """The GPU that is played."""
    return {"name": seed("STAND_IN_GPU_NAME"), "compute_capability": seed("STAND_IN_COMPUTE_CAPABILITY")}


def has_gpu() -> bool:
    """Whether there is one, with a driver."""
    return seed("STAND_IN_GPUS") != "0" and seed("STAND_IN_DRIVER") != "0"
