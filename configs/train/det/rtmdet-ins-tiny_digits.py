# RTMDet-Ins-tiny: the demo's detector with a mask for each object, from scratch on scenes of handwritten digits.
_base_ = ["./_base_/digits_masks.py"]

model_of = "mmdet::rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py"
model = dict(backbone=dict(init_cfg=None))
