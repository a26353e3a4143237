# YOLOX-nano, tested at 416×416 as published.
_base_ = ["./yolox-tiny_coco.py"]

model_of = "mmdet::yolox/yolox_nano_8xb8-300e_coco.py"
