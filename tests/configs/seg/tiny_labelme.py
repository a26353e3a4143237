# Small enough to train inside a test, on images labelled with labelme.
_base_ = ["../../../configs/train/seg/pspnet-r18_labelme.py"]

model = dict(
    data_preprocessor=dict(size=(64, 64)),
    backbone=dict(stem_channels=8, base_channels=8),
    decode_head=dict(in_channels=64, channels=16),
    auxiliary_head=dict(in_channels=32, channels=8),
)
scale = (80, 60)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale=scale, ratio_range=(0.9, 1.2), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(64, 64)),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=scale, keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
few = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(batch_size=4, dataset=dict(pipeline=train_pipeline), **few)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline), **few)
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=2e-3))
