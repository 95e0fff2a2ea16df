"""The models of image_classification, and the weights that they begin with."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from images import job
from safetensors.torch import save_file
from torch import nn

from hpo.errors import DataError
from hpo.trial import Job
from objectives.image_classification import OBJECTIVE
from objectives.image_classification.fields import checked
from objectives.image_classification.model import ImageModel, Shape, architecture, blocks_of, build

MINI = ("convnext-mini", "vit-mini", "dinov2-mini")
pytestmark = pytest.mark.usefixtures("own_cache")


def made(model: str, classes: int = 10, **shape: float) -> ImageModel:
    return build(architecture(checked({"model": model})), classes, Shape(**shape))


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


# Models


@pytest.mark.parametrize(
    ("model", "published"),
    [
        ("vit-base", 86_567_656),  # google/vit-base-patch16-224; 86 M in table 1 of arXiv 2010.11929
        ("vit-small", 22_050_664),  # deit_small_patch16_224; 22 M in table 1 of arXiv 2012.12877
        ("convnext-tiny", 28_589_128),  # convnext_tiny of torchvision; 28.6 M in table 9 of arXiv 2201.03545
    ],
)
def test_a_preset_has_the_parameters_that_were_published(model: str, published: int) -> None:
    with torch.device("meta"):
        assert parameters(made(model, classes=1000)) == published


def test_a_vision_transformer_has_the_parameters_counted_by_hand() -> None:
    width, layers, tokens = 96, 6, (32 // 4) ** 2 + 1
    block = 4 * (width * width + width) + 2 * (4 * width * width) + 4 * width + width + 4 * width
    patches = 3 * 4 * 4 * width + width
    assert parameters(made("vit-mini")) == layers * block + patches + tokens * width + width + 2 * width + 970


@pytest.mark.parametrize("model", MINI)
def test_a_model_takes_pixels_as_they_are_stored_and_normalises_them_itself(model: str) -> None:
    torch.manual_seed(1)
    whole = made(model).eval()
    whole.normalise_with([0.5, 0.4, 0.3], [0.2, 0.25, 0.5])
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    by_hand = torch.stack(
        [(pixels[:, c] / 255.0 - m) / s for c, (m, s) in enumerate([(0.5, 0.2), (0.4, 0.25), (0.3, 0.5)])], dim=1
    )
    with torch.no_grad():
        torch.testing.assert_close(whole(pixels), whole.net(by_hand).logits)


def test_dropout_stands_before_the_last_layer_and_in_training_alone() -> None:
    torch.manual_seed(1)
    model = made("convnext-mini", dropout=0.5)
    heads = [module for module in model.modules() if isinstance(module, nn.Linear)]
    features = torch.ones(4000, heads[-1].in_features)
    heads[-1].weight.data.zero_()
    heads[-1].weight.data[0, 0] = 1
    kept = heads[-1](features)[:, 0]
    assert set(kept.detach().unique().tolist()) == {0.0, 2.0}
    assert kept.mean().item() == pytest.approx(1, abs=0.06)  # four standard deviations
    assert (heads[-1].eval()(features)[:, 0] == 1).all()
    names = set(model.state_dict())
    assert names == set(made("convnext-mini").state_dict()) and "net.classifier.weight" in names


@pytest.mark.slow
@pytest.mark.parametrize("model", MINI)
def test_drop_path_changes_training_and_nothing_else(model: str) -> None:
    torch.manual_seed(1)
    dropping = made(model, drop_path=0.5)
    plain = made(model)
    plain.load_state_dict(dropping.state_dict())
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        dropping.train(), plain.train()
        assert not torch.equal(dropping(pixels), dropping(pixels))
        assert torch.equal(plain(pixels), plain(pixels))
        dropping.eval(), plain.eval()
        torch.testing.assert_close(dropping(pixels), plain(pixels))


def test_a_skipped_block_of_a_vision_transformer_keeps_the_mean() -> None:
    """The deepest block is left out for half the samples, and of the others its change counts double."""
    torch.manual_seed(1)
    block = blocks_of(made("vit-mini", drop_path=0.5).net)[-1].train()
    state = torch.randn(1, 5, 96).expand(64, 5, 96)
    with torch.no_grad():
        change = block.eval()(state)[0] - state[0]
        seen = block.train()(state) - state
    kinds = [torch.allclose(one, torch.zeros_like(one)) for one in seen]
    assert 20 < sum(kinds) < 44
    for one, skipped in zip(seen, kinds, strict=True):
        if not skipped:
            torch.testing.assert_close(one, 2 * change, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("model", MINI)
def test_every_block_is_named_and_can_be_copied_and_checkpointed(model: str, digits: Path) -> None:
    task = OBJECTIVE().task(job(digits, data={"path": str(digits), "model": model}))
    assert len(task.blocks) == {"convnext-mini": 5}.get(model, 6)
    inside = {id(module) for module in task.model.modules()}
    assert all(id(block) in inside for block in task.blocks)
    copy.deepcopy(task.model)(*task.example)


def test_a_model_by_its_folder_is_built_and_its_weights_are_loaded(digits: Path, tmp_path: Path) -> None:
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(5)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3)
    saved = ResNetForImageClassification(config)
    saved.save_pretrained(tmp_path / "resnet")
    data = {"path": str(digits), "model": str(tmp_path / "resnet"), "image_size": 32}
    fresh = OBJECTIVE().task(job(digits, data=data)).model.state_dict()
    loaded = OBJECTIVE().task(job(digits, data={**data, "weights": "pretrained"})).model.state_dict()
    first = "resnet.embedder.embedder.convolution.weight"
    assert torch.equal(loaded[f"net.{first}"], saved.state_dict()[first])
    assert not torch.equal(fresh[f"net.{first}"], saved.state_dict()[first])
    assert loaded["net.classifier.1.weight"].shape == (10, 16)


def test_a_folder_without_a_configuration_is_refused(digits: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no usable config"):
        OBJECTIVE().task(job(digits, data={"path": str(digits), "model": str(tmp_path), "image_size": 32}))


# Weights


def weights_job(digits: Path, path: Path) -> Job:
    return job(digits, data={"path": str(digits), "model": "vit-mini", "weights": str(path)})


@pytest.mark.parametrize("kind", ["safetensors", "pt"])
def test_weights_of_other_classes_go_into_all_but_the_last_layer(digits: Path, tmp_path: Path, kind: str) -> None:
    given = made("vit-mini", classes=3).net.state_dict()
    path = tmp_path / f"weights.{kind}"
    save_file(given, path) if kind == "safetensors" else torch.save({"state_dict": given}, path)
    state = OBJECTIVE().task(weights_job(digits, path)).model.get_submodule("net").state_dict()
    unequal = {name for name in given if state[name].shape != given[name].shape or (state[name] != given[name]).any()}
    assert unequal == {"classifier.weight", "classifier.bias"}


def test_weights_of_a_shipped_model_go_in_whole(digits: Path, tmp_path: Path) -> None:
    shipped = made("vit-mini")
    save_file(shipped.state_dict(), tmp_path / "weights.safetensors")
    model = OBJECTIVE().task(weights_job(digits, tmp_path / "weights.safetensors")).model
    assert torch.equal(model.state_dict()["net.classifier.weight"], shipped.state_dict()["net.classifier.weight"])


def test_weights_of_another_model_are_refused_with_counts_and_names(digits: Path, tmp_path: Path) -> None:
    save_file(made("dinov2-mini").net.state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(DataError, match=r"must be those of this model; \d+ missing \(vit\..*\d+ unknown \(dinov2\."):
        OBJECTIVE().task(weights_job(digits, tmp_path / "other.safetensors"))


def test_a_file_that_is_no_weights_is_refused_and_never_run(digits: Path, tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("no weights")
    torch.save({"a": 1}, tmp_path / "numbers.pt")
    torch.save(print, tmp_path / "code.pt")
    for name, told in (
        ("text.safetensors", "cannot be read"),
        ("numbers.pt", "by name"),
        ("code.pt", "cannot be read"),
    ):
        with pytest.raises(DataError, match=told):
            OBJECTIVE().task(weights_job(digits, tmp_path / name))
