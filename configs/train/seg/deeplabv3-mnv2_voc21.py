# DeepLabV3 on a dilated MobileNetV2 with VOC's 21 classes: to export and measure TensorFlow's pretrained checkpoint
# (CHECKPOINT=, DATA=), which saw images of 513 pixels.
_base_ = ["mmseg::_base_/models/deeplabv3_r50-d8.py", "./_base_/finetune.py"]

source = "masks"
custom_imports = dict(imports=["train.models.label_map_dataset", "train.models.dilated_mobilenet_v2"])
norm_cfg = dict(type="BN", eps=1e-3)
model = dict(
    pretrained=None,
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3, size=(256, 256), test_cfg=dict(size=(513, 513))),
    backbone=dict(
        _delete_=True,
        type="DilatedMobileNetV2",
        strides=(1, 2, 2, 1, 1, 1, 1),
        dilations=(1, 1, 1, 2, 2, 4, 4),
        norm_cfg=norm_cfg,
    ),
    decode_head=dict(in_channels=320, channels=256, dilations=(1,), norm_cfg=norm_cfg, align_corners=True),
    auxiliary_head=None,
)
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(513, 513), keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
