# ShuffleNetV2 1x with ImageNet's classes: to export and measure a pretrained checkpoint (CHECKPOINT=, DATA=).
_base_ = ["mmpretrain::_base_/models/shufflenet_v2_1x.py", "../_base_/runtime.py", "./_base_/imagenet.py"]
