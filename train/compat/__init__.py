"""The 2023–24 mm* packages on today's torch: each quirk in one place, with its reason. `apply()` comes first.

Quirks cured here:

- `mmcv._ext` is not compiled; `ops` stands in for it on torchvision's kernels. A compiled mmcv, where installed, wins.
- torch ≥ 2.6 loads checkpoints with `weights_only=True`, and MMEngine 0.10.7 stores its own classes in them
  (mmengine#1655): those classes, and no others, are allowed (`train.checkpoint`).
- MMEngine writes checkpoints in place; the file backend `atomic` does not (`train.checkpoint`).
- mmdet, mmseg and mmpretrain look each other up by registry scope, which works only where all of a package's modules
  are imported: `use(scope)` imports them and makes the scope the default, as the warning they would print asks.
- mmseg's SegNeXt with `rand_init=False` has no place for the bases of its checkpoint (`hamburger`).
- mmdet 3.2 and 3.3 ask a dense head for `loss_cls` when it predicts, which SSD's has not (mmdetection#11305): it gets one
  that says nothing.
"""

from functools import cache


@cache
def apply() -> None:
    """Prepare the mm* packages. Idempotent, and free after the first call."""
    from train.compat import ops

    ops.install()
    from train import checkpoint

    checkpoint.register()


def use(scope: str) -> None:
    """Import every module of an OpenMMLab package ("mmpretrain", "mmdet", "mmseg") and make its registry the default.

    Raises:
        UsageError: a scope Slipway does not train.
    """
    import importlib

    from train.errors import UsageError

    apply()
    known = ("mmpretrain", "mmdet", "mmseg")
    if scope not in known:
        raise UsageError(f"default_scope '{scope}' in the configuration: expected one of {', '.join(known)}")
    _quiet()
    importlib.import_module(f"{scope}.utils").register_all_modules(init_default_scope=True)
    if scope == "mmseg":
        from train.compat import hamburger

        hamburger.keep_bases()
    if scope == "mmdet":
        _mend_ssd()


def _mend_ssd() -> None:
    from mmdet.models.dense_heads import SSDHead

    SSDHead.loss_cls = None


@cache
def _quiet() -> None:
    """Silence what the packages say of their own code, which no user can mend."""
    import warnings

    for category, message in (
        (UserWarning, r"``build_loss`` would be deprecated"),  # mmseg calls its own old name
        (UserWarning, r"``build_pixel_sampler`` would be deprecated"),  # the same
        (UserWarning, r"Default ``avg_non_ignore`` is False"),  # the default of every mmseg config
        (UserWarning, r"The current default scope .* is not"),  # two packages in one process: said on each change
        (UserWarning, r"torch.meshgrid: in an upcoming release"),  # mmdet's anchors and points
        (FutureWarning, r"`torch.cuda.amp.autocast"),  # mmdet's CSP backbones, on each epoch
    ):
        warnings.filterwarnings("ignore", message=message, category=category)
