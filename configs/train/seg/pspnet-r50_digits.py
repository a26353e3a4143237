# PSPNet-R50 on the digit scenes.
_base_ = ["mmseg::_base_/models/pspnet_r50-d8.py", "./_base_/digits.py"]

model = dict(pretrained=None, data_preprocessor=dict(size=(120, 120)))
