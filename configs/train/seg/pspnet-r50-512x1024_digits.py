# PSPNet-R50 at 512×1024, the size of Cityscapes' test pipelines, on the digit scenes stretched to it: to measure speed on a GPU
# without a data set of one's own. An epoch is a minute there; what it learns is enough to compare precisions, not models.
_base_ = ["./pspnet-r50_digits.py"]

model = dict(data_preprocessor=dict(size=(512, 512)))
train_dataloader = dict(
    dataset=dict(
        dataset=dict(
            pipeline=[
                dict(type="LoadImageFromFile"),
                dict(type="LoadAnnotations"),
                dict(type="Resize", scale=(1024, 512), keep_ratio=False),
                dict(type="CropObject", size=256, anywhere=0.2),
            ],
        ),
        pipeline=[dict(type="Mosaic", grid=2), dict(type="PackSegInputs")],
    ),
)
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(1024, 512), keep_ratio=False),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
