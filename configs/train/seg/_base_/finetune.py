# Fine-tuning for a few epochs: a small step for the pretrained backbone, a large one for the new heads.
_base_ = ["./folder.py"]

optim_wrapper = dict(
    optimizer=dict(type="AdamW", lr=2e-4, weight_decay=0.05),
    paramwise_cfg=dict(custom_keys={"head": dict(lr_mult=10.0)}, norm_decay_mult=0.0, bias_decay_mult=0.0),
)
max_epochs = 20
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=1, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=2)
val_cfg = dict()
test_cfg = dict()
