# Mask R-CNN with a ResNet-18, from scratch on scenes of handwritten digits.
_base_ = ["./_base_/mask-rcnn_small.py", "./_base_/digits_masks.py"]

model = dict(
    # From scratch: everything learns, batch statistics too.
    backbone=dict(depth=18, frozen_stages=-1, norm_eval=False, zero_init_residual=True),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
# Its heads have no normalisation to forgive larger steps.
optim_wrapper = dict(optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=10, norm_type=2))
param_scheduler = dict(eta_max=1e-3)

# Without `Pad`, to which mmdet's boxes would reach, where there is no mask to paste: the preprocessor pads.
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(80, 80), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
