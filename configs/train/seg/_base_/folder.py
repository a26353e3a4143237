# Images with label maps, as the sources of train/data write them. The root, the classes, their colours and their number
# come from the prepared data set (`bind` in train/config.py), so nothing here needs an edit for new data.
_base_ = ["../../_base_/runtime.py"]

default_scope = "mmseg"
custom_imports = dict(imports=["train.models.label_map_dataset"], allow_failed_imports=False)

crop_size = (256, 256)  # a model's data_preprocessor needs it too: size=crop_size
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale=(1024, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=crop_size, cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(1024, 512), keep_ratio=True),
    # After the resize: label maps keep their own size, and the logits are brought to it.
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    persistent_workers=True,
    drop_last=True,  # batch statistics of a last single image have no deviation
    dataset=dict(type="LabelMapDataset", data_root="", split="train", pipeline=train_pipeline),
    sampler=dict(type="DefaultSampler", shuffle=True),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    dataset=dict(type="LabelMapDataset", data_root="", split="val", pipeline=test_pipeline, test_mode=True),
    sampler=dict(type="DefaultSampler", shuffle=False),
)
val_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU", "mDice"])
test_dataloader = val_dataloader
test_evaluator = val_evaluator
default_hooks = dict(checkpoint=dict(save_best="mIoU"))
