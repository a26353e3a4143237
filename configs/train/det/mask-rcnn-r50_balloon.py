# The camp's exercise: Mask R-CNN on photos of balloons marked in VIA (DATA=balloon), from pretrained weights (LOAD_FROM=).
_base_ = ["mmdet::_base_/models/mask-rcnn_r50_fpn.py", "./_base_/masks.py"]

source = "via"
model = dict(backbone=dict(init_cfg=None))
