# Transformers that find a set of objects: a small step, a smaller one for the backbone, and clipped gradients.
_base_ = ["./coco.py"]

model = dict(backbone=dict(init_cfg=None))
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type="AdamW", lr=1e-4 / 8, weight_decay=1e-4),
    clip_grad=dict(max_norm=0.1, norm_type=2),
    paramwise_cfg=dict(custom_keys={"backbone": dict(lr_mult=0.1, decay_mult=1.0)}),
)
