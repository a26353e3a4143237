# MobileNetV2 as TensorFlow trained it: "same" padding, which depends on the image's size, and inputs in −1..1.
_base_ = ["mmpretrain::_base_/models/mobilenet_v2_1x.py", "../_base_/runtime.py", "./_base_/imagenet.py"]

model = dict(backbone=dict(conv_cfg=dict(type="Conv2dAdaptivePadding")))
data_preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3)
