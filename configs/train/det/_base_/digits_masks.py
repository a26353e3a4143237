# The digit scenes with their masks.
_base_ = ["./digits.py"]

size = (80, 80)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(type="Resize", scale=size, keep_ratio=True),
    dict(type="CachedMosaic", img_scale=size, center_ratio_range=(1.0, 1.0)),
    dict(type="Pad", size=(160, 160), pad_val=dict(img=(114, 114, 114))),  # the first ones, before there are four
    dict(type="PackDetInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_evaluator = dict(metric=["bbox", "segm"])
test_evaluator = val_evaluator
