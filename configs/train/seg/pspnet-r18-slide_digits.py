# The demo's network, looking at scenes through overlapping windows.
_base_ = ["./pspnet-r18_digits.py"]

model = dict(test_cfg=dict(mode="slide", crop_size=(128, 128), stride=(96, 96)))
