# Small enough to train inside a test: a thin Mask R-CNN on a few of the digit scenes.
_base_ = ["../../../configs/train/det/mask-rcnn-r18_digits.py"]

width = 16
model = dict(
    backbone=dict(stem_channels=8, base_channels=8),
    neck=dict(in_channels=[8, 16, 32, 64], out_channels=width),
    rpn_head=dict(in_channels=width, feat_channels=width),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=width),
        bbox_head=dict(in_channels=width, fc_out_channels=32),
        mask_roi_extractor=dict(out_channels=width),
        mask_head=dict(in_channels=width, conv_out_channels=width, num_convs=1),
    ),
    test_cfg=dict(rcnn=dict(score_thr=0.001)),  # what has learned little is sure of nothing
)
few = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(dataset=dict(indices=64), **few)
val_dataloader = dict(dataset=dict(indices=12), **few)
test_dataloader = val_dataloader

max_epochs = 2
param_scheduler = dict(total_steps=max_epochs)
train_cfg = dict(max_epochs=max_epochs, val_interval=1)
