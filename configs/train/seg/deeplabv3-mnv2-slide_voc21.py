# The same, looking through two rows of two overlapping windows.
_base_ = ["./deeplabv3-mnv2_voc21.py"]

model = dict(test_cfg=dict(mode="slide", crop_size=(321, 321), stride=(192, 192)))
