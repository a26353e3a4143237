# The demo: RTMDet-tiny from scratch on scenes of handwritten digits, minutes on two CPU cores.
_base_ = ["./_base_/digits.py"]

model_of = "mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py"
model = dict(backbone=dict(init_cfg=None))
