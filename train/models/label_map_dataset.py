"""The data set of a segmentation config: images and label maps as every source of train/data writes them."""

from pathlib import Path
from typing import Any

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from train.data.label_maps import read_split


@DATASETS.register_module()
class LabelMapDataset(BaseSegDataset):
    """A split of a prepared set with label maps (see `train.data.label_maps`); labels start at 0, 255 is ignored.

    Args:
        split: "train" or "val".
        kwargs: of mmseg's `BaseSegDataset`: data_root, metainfo, pipeline, indices, …
    """

    def __init__(self, split: str, **kwargs: Any) -> None:
        self.split = split
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict[str, Any]]:
        """One entry an image, in the order of the split's list.

        Raises:
            InputError: the set has no such split, or no label maps.
        """
        return [
            dict(img_path=str(image), seg_map_path=str(labels), label_map=None, reduce_zero_label=False, seg_fields=[])
            for image, labels in read_split(Path(self.data_root), self.split)
        ]
