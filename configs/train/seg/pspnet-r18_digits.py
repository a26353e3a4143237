# The demo: PSPNet-R18 from scratch on scenes of handwritten digits, minutes on two CPU cores.
_base_ = ["mmseg::_base_/models/pspnet_r50-d8.py", "./_base_/digits.py"]

# Only pixels that are not sure yet count, at least 700 an image: most of the canvas is, soon.
hard_pixels = dict(type="OHEMPixelSampler", thresh=0.7, min_kept=700)
model = dict(
    pretrained=None,
    # Padded to whole strides: the resize to the image's size would stretch the logits of a last cell that is half empty.
    data_preprocessor=dict(size=(120, 120), test_cfg=dict(size_divisor=8)),
    backbone=dict(depth=18, zero_init_residual=True),
    decode_head=dict(
        in_channels=512,
        channels=128,
        dropout_ratio=0,
        sampler=hard_pixels,
        # Regions are recognised long before pixels are.
        loss_decode=[dict(type="CrossEntropyLoss", loss_weight=1.0), dict(type="RegionCrossEntropyLoss")],
    ),
    auxiliary_head=dict(in_channels=256, channels=64, dropout_ratio=0, sampler=hard_pixels),
)
# Steps as large as batch normalisation forgives.
optim_wrapper = dict(optimizer=dict(_delete_=True, type="SGD", lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4))
param_scheduler = dict(eta_max=1.5)
