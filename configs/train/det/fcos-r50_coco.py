# FCOS with ResNet-50 and FPN, as published: no anchors.
_base_ = ["./_base_/coco.py"]

model_of = "mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py"
model = dict(backbone=dict(init_cfg=None))
optim_wrapper = dict(optimizer=dict(lr=0.01 / 8), paramwise_cfg=dict(bias_lr_mult=2.0, bias_decay_mult=0.0))
