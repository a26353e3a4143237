# Small enough to train inside a test: a thin PSPNet on a few of the digit scenes.
_base_ = ["../../../configs/train/seg/pspnet-r18_digits.py"]

model = dict(
    data_preprocessor=dict(test_cfg=None),  # images go in as they are
    backbone=dict(stem_channels=8, base_channels=8),
    decode_head=dict(in_channels=64, channels=16),
    auxiliary_head=dict(in_channels=32, channels=8),
)
few = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(dataset=dict(dataset=dict(indices=64)), **few)
val_dataloader = dict(dataset=dict(indices=12), **few)
test_dataloader = val_dataloader

max_epochs = 2
param_scheduler = dict(total_steps=max_epochs)
train_cfg = dict(max_epochs=max_epochs, val_interval=1)
