# The demo: ResNet-18 from scratch on scikit-learn's handwritten digits, minutes on two CPU cores.
_base_ = ["mmpretrain::_base_/models/resnet18.py", "../_base_/runtime.py", "./_base_/folder.py"]

source = "digits"

model = dict(head=dict(num_classes=10))
data_preprocessor = dict(mean=[127.5] * 3, std=[127.5] * 3)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="RandomResizedCrop", scale=64, crop_ratio_range=(0.7, 1.0), aspect_ratio_range=(0.9, 1.1)),
    dict(type="PackInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(64, 64)),
    dict(type="PackInputs"),
]
train_dataloader = dict(batch_size=32, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(batch_size=64, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

max_epochs = 6
optim_wrapper = dict(optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05))
param_scheduler = dict(
    type="OneCycleLR", eta_max=2e-3, total_steps=max_epochs, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)
val_cfg = dict()
test_cfg = dict()
