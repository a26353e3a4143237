# The 102-flower exercise: a file-list data set (Oxford 102), fine-tuned with batch mixup and an L1 loss of our own.
_base_ = ["mmpretrain::_base_/models/resnet50.py", "../_base_/runtime.py", "./_base_/folder.py", "./_base_/finetune.py"]

source = "flowers102"
model = dict(
    head=dict(num_classes=102, loss=dict(_delete_=True, type="ClassDistributionL1Loss", loss_weight=1.0)),
    train_cfg=dict(augments=dict(type="Mixup", alpha=0.2)),
)
max_epochs = 40
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=1, end=max_epochs, convert_to_iter_based=True),
]
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=1)
