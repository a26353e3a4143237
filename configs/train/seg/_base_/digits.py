# The embedded scenes of handwritten digits, from scratch on two CPU cores.
_base_ = ["./folder.py"]

source = "digits_scenes"
custom_imports = dict(
    imports=["train.models.label_map_dataset", "train.models.mosaic", "train.models.region_loss"],
    allow_failed_imports=False,
)

# Training sees scenes with a longer edge of 104 pixels, where the digits stay readable and a step costs a third. Testing
# sees them a little larger, as H. Touvron et al. advise, 2019 (arXiv:1906.06423).
train_dataloader = dict(
    batch_size=4,
    dataset=dict(
        _delete_=True,
        type="MultiImageMixDataset",
        dataset=dict(
            type="LabelMapDataset",
            data_root="",
            split="train",
            pipeline=[
                dict(type="LoadImageFromFile"),
                dict(type="LoadAnnotations"),
                dict(type="RandomResize", scale=(104, 104), ratio_range=(0.9, 1.1), keep_ratio=True),
                dict(type="CropObject", size=40, anywhere=0.2),
            ],
        ),
        # Nine digits an image: from whole scenes, mostly canvas, nothing is learned in this time.
        pipeline=[dict(type="Mosaic", grid=3), dict(type="PackSegInputs")],
    ),
)
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(112, 112), keep_ratio=True),
    # After the resize: label maps keep their own size, and the logits are brought to it.
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs"),
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

max_epochs = 4
optim_wrapper = dict(optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05))
param_scheduler = dict(
    type="OneCycleLR", eta_max=1e-3, pct_start=0.2, total_steps=max_epochs, by_epoch=True, convert_to_iter_based=True
)
train_cfg = dict(by_epoch=True, max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = dict()
test_cfg = dict()
