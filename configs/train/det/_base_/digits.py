# The embedded scenes of handwritten digits, from scratch on two CPU cores.
_base_ = ["./folder.py"]

source = "digits_scenes"
# Four scenes an image, their digits no larger than they need to be: what is learned depends on the digits seen.
size = (80, 80)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", scale=size, keep_ratio=True),
    dict(type="CachedMosaic", img_scale=size, center_ratio_range=(1.0, 1.0)),
    dict(type="Pad", size=(160, 160), pad_val=dict(img=(114, 114, 114))),  # the first ones, before there are four
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=size, keep_ratio=True),
    dict(type="Pad", size_divisor=32, pad_val=dict(img=(114, 114, 114))),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

max_epochs = 7
optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=8e-3, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0, bias_decay_mult=0, bypass_duplicate=True),
)
param_scheduler = dict(
    type="OneCycleLR", eta_max=8e-3, pct_start=0.3, total_steps=max_epochs, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = dict()
test_cfg = dict()
