# Mask R-CNN with a ResNet-18, from scratch on scenes of handwritten digits.
_base_ = ["./_base_/mask-rcnn_small.py", "./_base_/digits_masks.py"]

width = 64
model = dict(
    # From scratch: everything learns, batch statistics too.
    backbone=dict(depth=18, frozen_stages=-1, norm_eval=False, zero_init_residual=True),
    neck=dict(in_channels=[64, 128, 256, 512], out_channels=width),
    rpn_head=dict(in_channels=width, feat_channels=width),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=width),
        bbox_head=dict(in_channels=width),
        mask_roi_extractor=dict(out_channels=width),
        mask_head=dict(in_channels=width, conv_out_channels=width, num_convs=2),
    ),
    # Sixteen digits an image.
    train_cfg=dict(
        rpn=dict(sampler=dict(num=128)), rpn_proposal=dict(max_per_img=128), rcnn=dict(sampler=dict(num=64))
    ),
    test_cfg=dict(rpn=dict(max_per_img=128)),
)
# Its heads have no normalisation to forgive larger steps.
optim_wrapper = dict(optimizer=dict(lr=2e-3), clip_grad=dict(max_norm=10, norm_type=2))
param_scheduler = dict(eta_max=2e-3)

# Without `Pad`, to which mmdet's boxes would reach, where there is no mask to paste: the preprocessor pads.
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(80, 80), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
