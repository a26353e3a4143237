# The demo: PSPNet-R18 from scratch on scenes of handwritten digits, minutes on two CPU cores.
_base_ = ["mmseg::_base_/models/pspnet_r50-d8.py", "./_base_/digits.py"]

model = dict(
    pretrained=None,
    data_preprocessor=dict(size=(96, 96)),
    backbone=dict(depth=18),
    decode_head=dict(in_channels=512, channels=128),
    auxiliary_head=dict(in_channels=256, channels=64),
)
