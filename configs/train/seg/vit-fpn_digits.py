# The course's model: a vision transformer, a pyramid made from its four depths, an FPN, and the focal loss.
_base_ = ["mmseg::_base_/models/fpn_r50.py", "./_base_/digits.py"]

custom_imports = dict(
    imports=["train.models.label_map_dataset", "train.models.mosaic", "train.models.focal_loss"],
    allow_failed_imports=False,
)
width = 192
model = dict(
    pretrained=None,
    data_preprocessor=dict(size=(128, 128), test_cfg=dict(size_divisor=16)),
    backbone=dict(
        _delete_=True,
        type="VisionTransformer",
        img_size=128,
        patch_size=16,
        embed_dims=width,
        num_layers=12,
        num_heads=3,
        out_indices=(2, 5, 8, 11),
    ),
    neck=[
        dict(type="Feature2Pyramid", embed_dim=width, norm_cfg=dict(type="BN")),
        dict(type="FPN", in_channels=[width] * 4, out_channels=128, num_outs=4),
    ],
    decode_head=dict(
        in_channels=[128] * 4,
        loss_decode=dict(_delete_=True, type="PixelFocalLoss", gamma=2.0, alpha=0.25),
    ),
)
