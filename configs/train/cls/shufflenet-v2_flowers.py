# Five flowers, fine-tuned: LOAD_FROM=<checkpoint pretrained on ImageNet>.
_base_ = [
    "mmpretrain::_base_/models/shufflenet_v2_1x.py",
    "../_base_/runtime.py",
    "./_base_/folder.py",
    "./_base_/finetune.py",
]

source = "flowers"
model = dict(head=dict(num_classes=5))
