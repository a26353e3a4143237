# The camp exercise: PSPNet-R50 from Cityscapes weights (LOAD_FROM=) to the 21 classes of PASCAL VOC (DATA=VOC2012). One
# device has an eighth of the published batch, and an eighth of its step.
_base_ = ["mmseg::_base_/models/pspnet_r50-d8.py", "./_base_/folder.py"]

source = "voc"
model = dict(pretrained=None, data_preprocessor=dict(size=(256, 256)))

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomResize", scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type="RandomCrop", crop_size=(256, 256), cat_max_ratio=0.75),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PhotoMetricDistortion"),
    dict(type="PackSegInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(2048, 512), keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(
    batch_size=8, sampler=dict(type="InfiniteSampler", shuffle=True), dataset=dict(pipeline=train_pipeline)
)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

max_iters = 4000
optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.01 / 8, momentum=0.9, weight_decay=5e-4))
param_scheduler = dict(type="PolyLR", eta_min=1e-4, power=0.9, begin=0, end=max_iters, by_epoch=False)
train_cfg = dict(type="IterBasedTrainLoop", max_iters=max_iters, val_interval=1000)
val_cfg = dict()
test_cfg = dict()
default_hooks = dict(
    logger=dict(interval=50, log_metric_by_epoch=False), checkpoint=dict(by_epoch=False, interval=1000)
)
log_processor = dict(by_epoch=False)
