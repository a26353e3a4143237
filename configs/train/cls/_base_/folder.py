# Images in ImageNet layout, as every source of train/data writes them. The root, the classes and their number come from
# the prepared data set (`bind` in train/config.py), so nothing here needs an edit for new data.
default_scope = "mmpretrain"
custom_imports = dict(imports=["train.models.l1_loss"], allow_failed_imports=False)

data_preprocessor = dict(
    # ImageNet's mean and deviation, RGB.
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    # Crops of at least a quarter of the image: smaller ones hide what a small set is about.
    dict(type="RandomResizedCrop", scale=224, crop_ratio_range=(0.25, 1.0)),
    dict(type="RandomFlip", prob=0.5, direction="horizontal"),
    dict(type="PackInputs"),
]
# OpenCV resizes, not Pillow: both runtimes must resize alike.
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="ResizeEdge", scale=256, edge="short"),
    dict(type="CenterCrop", crop_size=224),
    dict(type="PackInputs"),
]
train_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    dataset=dict(
        type="CustomDataset", data_root="", ann_file="train.txt", data_prefix="train", pipeline=train_pipeline
    ),
    sampler=dict(type="DefaultSampler", shuffle=True),
)
val_dataloader = dict(
    batch_size=32,
    num_workers=2,
    persistent_workers=True,
    dataset=dict(type="CustomDataset", data_root="", ann_file="val.txt", data_prefix="val", pipeline=test_pipeline),
    sampler=dict(type="DefaultSampler", shuffle=False),
)
val_evaluator = dict(type="Accuracy", topk=(1, 5))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
