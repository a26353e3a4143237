# The embedded scenes of handwritten digits, from scratch on two CPU cores.
_base_ = ["./folder.py"]

source = "digits_scenes"

crop_size = (96, 96)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale=(256, 256), ratio_range=(0.4, 0.9), keep_ratio=True),
    # Crops that show digits: no more than 90 % of the pixels may be canvas.
    dict(type="RandomCrop", crop_size=crop_size, cat_max_ratio=0.9),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(batch_size=16, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

max_epochs = 20
optim_wrapper = dict(optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05))
param_scheduler = dict(
    type="OneCycleLR", eta_max=2e-3, total_steps=max_epochs, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=5)
val_cfg = dict()
test_cfg = dict()
