# Faster R-CNN with ResNet-50 and FPN, as published.
_base_ = ["mmdet::_base_/models/faster-rcnn_r50_fpn.py", "./_base_/coco.py"]

model = dict(backbone=dict(init_cfg=None))
