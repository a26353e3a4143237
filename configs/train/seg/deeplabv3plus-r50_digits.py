# DeepLabV3+-R50 on the digit scenes.
_base_ = ["mmseg::_base_/models/deeplabv3plus_r50-d8.py", "./_base_/digits.py"]

model = dict(pretrained=None, data_preprocessor=dict(size=(120, 120)))
