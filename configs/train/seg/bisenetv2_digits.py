# BiSeNetV2 on the digit scenes.
_base_ = ["mmseg::_base_/models/bisenetv2.py", "./_base_/digits.py"]

model = dict(data_preprocessor=dict(size=(120, 120)))
