"""SegNeXt's bases, where they are drawn once (`rand_init=False`), from a model's beginning.

mmseg draws them in the first forward pass: until then a model has no place for those of its checkpoint, and would go on with
others. Source: mmseg/models/decode_heads/ham_head.py.
"""

from functools import cache, wraps
from typing import Any


@cache
def keep_bases() -> None:
    """Have `Hamburger` draw them when it is built. Idempotent, and free after the first call."""
    from mmseg.models.decode_heads.ham_head import Hamburger

    build = Hamburger.__init__

    @wraps(build)
    def __init__(self: Any, ham_channels: int = 512, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        build(self, ham_channels, *args, **kwargs)
        ham = self.ham
        if not ham.rand_init:
            ham.register_buffer("bases", ham._build_bases(1, ham.S, ham_channels // ham.S, ham.R, "cpu"))

    Hamburger.__init__ = __init__
