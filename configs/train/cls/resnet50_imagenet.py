# ResNet-50 with ImageNet's classes: to export and measure a pretrained checkpoint (CHECKPOINT=, DATA=).
_base_ = ["mmpretrain::_base_/models/resnet50.py", "../_base_/runtime.py", "./_base_/imagenet.py"]
