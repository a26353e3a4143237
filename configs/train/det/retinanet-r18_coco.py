# RetinaNet with ResNet-18 and FPN, as published.
_base_ = ["./retinanet-r50_coco.py"]

model = dict(backbone=dict(depth=18), neck=dict(in_channels=[64, 128, 256, 512]))
