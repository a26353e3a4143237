# Mask R-CNN with a narrow pyramid and narrow heads, which are where the time goes on a CPU.
_base_ = ["mmdet::_base_/models/mask-rcnn_r50_fpn.py"]

width = 96
model = dict(
    backbone=dict(init_cfg=None),
    neck=dict(out_channels=width),
    rpn_head=dict(in_channels=width, feat_channels=width),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=width),
        bbox_head=dict(in_channels=width, fc_out_channels=256),
        mask_roi_extractor=dict(out_channels=width),
        mask_head=dict(in_channels=width, conv_out_channels=width),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=1000, max_per_img=256),
        rcnn=dict(sampler=dict(num=128)),
    ),
    test_cfg=dict(rpn=dict(max_per_img=256)),
)
