# ImageNet's 1000 classes, for pretrained checkpoints: labels are mmpretrain's own class indices, names come with them.
_base_ = ["./folder.py", "./finetune.py"]

source = "imagefolder"
train_dataloader = dict(dataset=dict(type="ImageNet"))
val_dataloader = dict(dataset=dict(type="ImageNet"))
test_dataloader = dict(dataset=dict(type="ImageNet"))
