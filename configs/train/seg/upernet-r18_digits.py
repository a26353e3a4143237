# UPerNet-R18 on the digit scenes.
_base_ = ["mmseg::_base_/models/upernet_r50.py", "./_base_/digits.py"]

model = dict(
    pretrained=None,
    data_preprocessor=dict(size=(120, 120)),
    backbone=dict(depth=18),
    decode_head=dict(in_channels=[64, 128, 256, 512]),
    auxiliary_head=dict(in_channels=256),
)
