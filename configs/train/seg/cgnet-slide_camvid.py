# The same, looking through two rows of three overlapping windows.
_base_ = ["./cgnet_camvid.py"]

model = dict(test_cfg=dict(mode="slide", crop_size=(240, 240), stride=(120, 120)))
