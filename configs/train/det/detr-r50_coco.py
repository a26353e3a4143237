# DETR with ResNet-50, as published: a transformer that finds a set of objects, without NMS.
_base_ = ["./_base_/detr.py"]

model_of = "mmdet::detr/detr_r50_8xb2-150e_coco.py"
