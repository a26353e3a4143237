"""SegNeXt's bases are part of the model where they are drawn once."""

import torch

from train import compat


def built(*, rand_init: bool, seed: int) -> torch.nn.Module:
    compat.use("mmseg")
    from mmseg.models.decode_heads.ham_head import Hamburger

    torch.manual_seed(seed)
    return Hamburger(8, dict(MD_S=2, MD_R=3, rand_init=rand_init)).eval()


def test_a_checkpoint_brings_its_bases_along() -> None:
    trained, fresh = built(rand_init=False, seed=0), built(rand_init=False, seed=1)
    x = torch.rand(2, 8, 4, 5)
    with torch.no_grad():
        assert not torch.equal(trained(x), fresh(x))
        fresh.load_state_dict(trained.state_dict())
        assert torch.equal(trained(x), fresh(x))


def test_bases_drawn_for_every_image_are_not_kept() -> None:
    model, x = built(rand_init=True, seed=0), torch.rand(2, 8, 4, 5)
    assert "ham.bases" not in model.state_dict()
    with torch.no_grad():
        assert not torch.equal(model(x), model(x))
