# U-Net on the digit scenes: it halves four times, so images are padded to a multiple of 16.
_base_ = ["mmseg::_base_/models/fcn_unet_s5-d16.py", "./_base_/digits.py"]

model = dict(
    data_preprocessor=dict(size=(128, 128), test_cfg=dict(size_divisor=16)),
    test_cfg=dict(_delete_=True, mode="whole"),
)
