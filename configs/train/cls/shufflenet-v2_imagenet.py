# ShuffleNetV2 1x with ImageNet's 1000 classes: to export and measure a pretrained checkpoint (CHECKPOINT=, DATA=).
_base_ = [
    'mmpretrain::_base_/models/shufflenet_v2_1x.py', '../_base_/runtime.py', './_base_/folder.py', './_base_/finetune.py'
]
source = 'imagefolder'
