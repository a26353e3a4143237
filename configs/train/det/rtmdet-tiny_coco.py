# RTMDet-tiny at 640×640.
_base_ = ["./_base_/square.py"]

model_of = "mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py"
model = dict(backbone=dict(init_cfg=None))
