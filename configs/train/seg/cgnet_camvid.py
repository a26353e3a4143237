# CGNet with CamVid's eleven classes, at 480×360: to export and measure a pretrained checkpoint (CHECKPOINT=, DATA=).
_base_ = ["mmseg::_base_/models/cgnet.py", "./_base_/finetune.py"]

source = "masks"
model = dict(
    data_preprocessor=dict(mean=[105.658, 103.330, 99.625], size=(256, 256)),
    decode_head=dict(loss_decode=dict(class_weight=None)),
)
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
