# DeepLabV3+-R18 on the digit scenes.
_base_ = ["mmseg::_base_/models/deeplabv3plus_r50-d8.py", "./_base_/digits.py"]

model = dict(
    pretrained=None,
    data_preprocessor=dict(size=(120, 120)),
    backbone=dict(depth=18),
    decode_head=dict(in_channels=512, channels=128, c1_in_channels=64, c1_channels=12),
    auxiliary_head=dict(in_channels=256, channels=64),
)
