# Small enough to train inside a test: a thin ResNet-18 on the digits at 32 pixels.
_base_ = ["../../../configs/train/cls/resnet18_digits.py"]

model = dict(
    backbone=dict(stem_channels=16, base_channels=16, strides=(1, 2, 2, 2)), head=dict(in_channels=128, num_classes=10)
)
train_pipeline = [dict(type="LoadImageFromFile"), dict(type="PackInputs")]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="ResizeEdge", scale=36, edge="short"),
    dict(type="CenterCrop", crop_size=32),
    dict(type="PackInputs"),
]
train_dataloader = dict(num_workers=0, persistent_workers=False, batch_size=64, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(num_workers=0, persistent_workers=False, batch_size=64, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
max_epochs = 2
param_scheduler = dict(
    _delete_=True, type="OneCycleLR", eta_max=4e-3, total_steps=max_epochs, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(max_epochs=max_epochs)
