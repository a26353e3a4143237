# Small enough to train inside a test: a thin RTMDet on a few of the digit scenes.
_base_ = ["../../../configs/train/det/rtmdet-tiny_digits.py"]

model = dict(
    backbone=dict(widen_factor=0.125),
    neck=dict(in_channels=[32, 64, 128], out_channels=32),
    bbox_head=dict(in_channels=32, feat_channels=32),
)
few = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(dataset=dict(indices=64), **few)
val_dataloader = dict(dataset=dict(indices=12), **few)
test_dataloader = val_dataloader

max_epochs = 2
param_scheduler = dict(total_steps=max_epochs)
train_cfg = dict(max_epochs=max_epochs, val_interval=1)
