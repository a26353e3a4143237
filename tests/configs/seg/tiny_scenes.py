# Small enough to train inside a test: a thin PSPNet on a few of the digit scenes.
_base_ = ["../../../configs/train/seg/pspnet-r18_digits.py"]

crop_size = (64, 64)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(stem_channels=8, base_channels=8),
    decode_head=dict(in_channels=64, channels=16),
    auxiliary_head=dict(in_channels=32, channels=8),
)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomCrop", crop_size=crop_size, cat_max_ratio=0.85),
    dict(type="PackSegInputs"),
]
few = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(batch_size=8, dataset=dict(indices=64, pipeline=train_pipeline), **few)
val_dataloader = dict(dataset=dict(indices=12), **few)
test_dataloader = val_dataloader

max_epochs = 2
param_scheduler = dict(
    _delete_=True, type="OneCycleLR", eta_max=4e-3, total_steps=max_epochs, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(max_epochs=max_epochs, val_interval=1)
