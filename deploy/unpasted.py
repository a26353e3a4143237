"""Instance masks of mmdet's RoI heads before they are pasted into the image: what the exported graph gives.

Probabilities of each detection's own class over its box, as `FCNMaskHead` has them whichever way a head came by them: of one
stage, the average of several, or of queries. Source: mmdet/models/roi_heads/mask_heads/fcn_mask_head.py.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class Unpasted:
    """While it is entered, a RoI head's `predict` leaves masks as they would be pasted.

    Args:
        head: with a mask head, or a cascade of them, of which the last one pastes.
        wanted: whether there are masks at all.
    """

    def __init__(self, head: Any, wanted: bool) -> None:
        self.head, self.wanted = head, wanted
        self.last: Any = _last(head.mask_head) if wanted else None

    def __enter__(self) -> "Unpasted":
        if self.wanted:
            self.last._predict_by_feat_single = self._own
        return self

    def __exit__(self, *_: object) -> None:
        if self.wanted:
            del self.last._predict_by_feat_single

    def _own(self, mask_preds: Tensor, labels: Tensor, activate_map: bool = False, **_: Any) -> Tensor:
        classes = torch.zeros_like(labels) if self.last.class_agnostic else labels
        masks = mask_preds[torch.arange(len(labels)), classes]
        return masks if activate_map else masks.sigmoid()

    def masks(self, found: Sequence[Any]) -> list[Tensor] | None:
        """Masks of each image, K×h×w; mmdet draws masks of the image's size, none, for one without detections."""
        if not self.wanted:
            return None
        edges = _last(self.head.mask_roi_extractor).roi_layers[0].output_size
        empty = found[0].bboxes.new_zeros(0, *(edge * (self.last.scale_factor or 1) for edge in edges))
        return [each.masks if len(each) else empty for each in found]


def _last(modules: Any) -> Any:
    """A cascade's last stage, or the only one."""
    return modules[-1] if isinstance(modules, torch.nn.ModuleList) else modules
