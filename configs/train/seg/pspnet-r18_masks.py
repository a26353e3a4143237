# PSPNet-R18 on your own images and masks (DATA=), better from pretrained weights (LOAD_FROM=).
_base_ = ["mmseg::_base_/models/pspnet_r50-d8.py", "./_base_/finetune.py"]

source = "masks"
model = dict(
    pretrained=None,
    data_preprocessor=dict(size=(256, 256)),
    backbone=dict(depth=18),
    decode_head=dict(in_channels=512, channels=128),
    auxiliary_head=dict(in_channels=256, channels=64),
)
