# Fast-SCNN on the digit scenes.
_base_ = ["mmseg::_base_/models/fast_scnn.py", "./_base_/digits.py"]

model = dict(data_preprocessor=dict(size=(120, 120)))
