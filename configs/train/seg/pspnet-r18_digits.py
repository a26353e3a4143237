# The demo: PSPNet-R18 from scratch on scenes of handwritten digits, minutes on two CPU cores.
_base_ = ["mmseg::_base_/models/pspnet_r50-d8.py", "./_base_/digits.py"]

# Only pixels that are not sure yet count, at least a thousand an image: most of the canvas is, soon.
hard_pixels = dict(type="OHEMPixelSampler", thresh=0.7, min_kept=1000)
model = dict(
    pretrained=None,
    data_preprocessor=dict(size=(132, 132)),
    backbone=dict(depth=18, zero_init_residual=True),
    decode_head=dict(in_channels=512, channels=128, dropout_ratio=0, sampler=hard_pixels),
    auxiliary_head=dict(in_channels=256, channels=64, dropout_ratio=0, sampler=hard_pixels),
)
