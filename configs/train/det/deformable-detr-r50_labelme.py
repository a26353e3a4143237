# The course's exercise: Deformable DETR on images labelled with labelme (DATA=), from pretrained weights (LOAD_FROM=).
_base_ = ["./_base_/detr.py"]

source = "labelme"
model_of = "mmdet::deformable_detr/deformable-detr_r50_16xb2-50e_coco.py"
optim_wrapper = dict(
    optimizer=dict(lr=2e-4 / 8),
    paramwise_cfg=dict(
        custom_keys={"sampling_offsets": dict(lr_mult=0.1), "reference_points": dict(lr_mult=0.1)},
    ),
)
max_epochs = 50
param_scheduler = dict(
    _delete_=True, type="MultiStepLR", begin=0, end=max_epochs, by_epoch=True, milestones=[40], gamma=0.1
)
train_cfg = dict(max_epochs=max_epochs, val_interval=5)
