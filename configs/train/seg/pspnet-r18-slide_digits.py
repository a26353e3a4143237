# The demo's network, looking at scenes, 112 pixels at their longer edge, through overlapping windows.
_base_ = ["./pspnet-r18_digits.py"]

model = dict(test_cfg=dict(mode="slide", crop_size=(64, 64), stride=(40, 40)))
