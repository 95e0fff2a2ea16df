"""The parts of the multimodal network: sizes, masks and losses, against numbers worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from hpo.errors import DataError
from objectives.multimodal.cube import CubeEncoder
from objectives.multimodal.graph import GraphAutoEncoder, _kl, _mean
from objectives.multimodal.layers import Layer
from objectives.multimodal.model import PlanetModel, blocks_of, scaled
from objectives.multimodal.presets import FULL_DIMENSIONS, PARTS, PRESETS, Dimensions
from objectives.multimodal.views import INPUTS
from objectives.multimodal.weights import load_parts

SMALL = Dimensions(node_features=3, cube=(2, 4, 4, 8), classes=3)
TOKENS, NODES = 6, 5


def model(**changes: Any) -> PlanetModel:
    torch.manual_seed(0)
    return PlanetModel(PRESETS["tiny"], SMALL, **changes).eval()


def planets(rows: int = 4) -> dict[str, Tensor]:
    """Random inputs with everything there but the last two tokens and the last node."""
    draw = torch.Generator().manual_seed(1)
    ring = torch.zeros(NODES, NODES, dtype=torch.bool)
    for node in range(NODES - 1):
        ring[node, (node + 1) % (NODES - 1)] = ring[(node + 1) % (NODES - 1), node] = True
    there = torch.ones(rows, 1, dtype=torch.bool)
    return {
        "tokens": torch.randint(0, 50, (rows, TOKENS), generator=draw),
        "token_mask": (torch.arange(TOKENS) < TOKENS - 2).expand(rows, -1).clone(),
        "nodes": torch.randn(rows, NODES, 3, generator=draw),
        "adjacency": ring.expand(rows, -1, -1).clone(),
        "node_mask": (torch.arange(NODES) < NODES - 1).expand(rows, -1).clone(),
        "cube": torch.randn(rows, *SMALL.cube, generator=draw),
        "cube_mask": there,
    }


def parameters_of(part: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())


def test_the_full_preset_has_the_wanted_parameters_and_takes_no_memory_on_the_meta_device() -> None:
    with torch.device("meta"):
        full = PlanetModel(PRESETS["full"], FULL_DIMENSIONS)
    wanted = {"text": 13.14e9, "graph": 1.2e9, "cube": 2.5e9}
    for part, billions in wanted.items():
        assert parameters_of(full.get_submodule(part)) == pytest.approx(billions, rel=0.01), part
    assert parameters_of(full) == pytest.approx(17e9, rel=0.01)
    assert all(parameter.is_meta for parameter in full.parameters())
    assert len(blocks_of(full, PARTS)) == 40 + 24 + 48 + 3


@pytest.mark.parametrize("width", [8, 96])
def test_a_layer_has_as_many_parameters_as_the_table_of_presets_says(width: int) -> None:
    assert parameters_of(Layer(width, 2, 0.0)) == 12 * width**2 + 13 * width


@pytest.mark.parametrize("preset", PRESETS)
def test_heads_divide_widths(preset: str) -> None:
    sizes = PRESETS[preset]
    assert all(size.width % size.heads == 0 for size in (sizes.text, sizes.graph, sizes.cube, sizes.fusion))
    for scale in (0.5, 1.0, 2.0):
        for heads in (2, 4, 8):
            fusion = scaled(sizes.fusion, scale, heads)
            assert fusion.width % heads == 0 and fusion.width == pytest.approx(scale * sizes.fusion.width, rel=0.1)


def test_what_a_mask_hides_changes_nothing() -> None:
    net, given = model(), planets()
    before = net(*given.values())
    given["tokens"][:, -2:] = 7
    given["nodes"][:, -1] = 100.0
    after = net(*given.values())
    for name in before:
        torch.testing.assert_close(after[name], before[name], msg=name)


@pytest.mark.parametrize(("part", "mask"), [("text", "token_mask"), ("graph", "node_mask"), ("cube", "cube_mask")])
def test_a_missing_modality_has_no_say_and_no_loss(part: str, mask: str) -> None:
    net, given = model(), planets()
    complete = net(*given.values())["logits"]
    given[mask] = torch.zeros_like(given[mask])
    if part == "graph":
        given["adjacency"] = torch.zeros_like(given["adjacency"])
    before = net(*given.values())
    assert all(value.isfinite().all() for value in before.values())
    assert not torch.allclose(before["logits"], complete)
    content = INPUTS[part][0]
    given[content] = given[content].flip(0) + 1
    after = net(*given.values())
    torch.testing.assert_close(after["logits"], before["logits"])
    for name, value in after.items():
        if name.startswith(part):
            assert value.tolist() == [0, 0, 0, 0]


def test_nothing_at_all_still_gives_finite_logits() -> None:
    given = planets()
    given = {name: torch.zeros_like(value) if "mask" in name else value for name, value in given.items()}
    assert model()(*given.values())["logits"].isfinite().all()


def test_the_order_of_nodes_says_nothing() -> None:
    net, given = model(), planets()
    order = torch.tensor([2, 4, 0, 3, 1])
    other = dict(given)
    other["nodes"], other["node_mask"] = given["nodes"][:, order], given["node_mask"][:, order]
    other["adjacency"] = given["adjacency"][:, order][:, :, order]
    before, after = net(*given.values()), net(*other.values())
    for name in before:
        torch.testing.assert_close(after[name], before[name], atol=1e-5, rtol=1e-5)


def test_edges_are_looked_at() -> None:
    net, given = model(), planets()
    before = net(*given.values())["logits"]
    given["adjacency"][:, 0, 2] = given["adjacency"][:, 2, 0] = True
    assert not torch.allclose(net(*given.values())["logits"], before, atol=1e-4)


def test_longitudes_go_around() -> None:
    torch.manual_seed(0)
    part = CubeEncoder(PRESETS["tiny"].cube, 2, (4, 4, 16), 0.0)
    cubes = torch.randn(1, 2, 4, 4, 16)
    moved = part.stem(cubes.roll(part.patch, dims=4))
    torch.testing.assert_close(moved, part.stem(cubes).roll(1, dims=4))


def test_a_token_tells_its_own_patch_again() -> None:
    part = CubeEncoder(PRESETS["tiny"].cube, 2, (4, 4, 8), 0.0)
    cubes = torch.arange(2 * 4 * 4 * 8, dtype=torch.float32).reshape(1, 2, 4, 4, 8)
    patches = part._patches(cubes)
    assert patches.shape == (1, 2, 128)
    for token in range(2):  # both lie side by side in longitude
        expected = cubes[0, :, :, :, 4 * token : 4 * token + 4].flatten()
        torch.testing.assert_close(patches[0, token], expected)


def test_the_kl_is_that_of_two_normal_distributions() -> None:
    mean, log_variance = torch.tensor([[[1.0, 0.0], [5.0, 5.0]]]), torch.tensor([[[0.0, math.log(4)], [3.0, 3.0]]])
    there = torch.tensor([[True, False]])
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(mean[0, 0], torch.tensor([1.0, 2.0])), normal(0.0, 1.0)).sum()
    torch.testing.assert_close(_kl(mean, log_variance, there), expected[None])
    assert expected.item() == pytest.approx(0.5 + (4 - 1 - math.log(4)) / 2)


def test_edges_weigh_as_much_as_pairs_without_one() -> None:
    """Three nodes, one edge, codes so that its logit is 1 and those of the other pairs are 0 and -1."""
    part = GraphAutoEncoder(PRESETS["tiny"].graph, 3, 0.0)
    code = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [9.0, 9.0]]])
    adjacency = torch.zeros(1, 4, 4, dtype=torch.bool)
    adjacency[0, 0, 1] = adjacency[0, 1, 0] = True
    there = torch.tensor([[True, True, True, False]])
    edge = math.log(1 + math.exp(-1))  # logit 1 of what is there
    other = math.log(1 + math.exp(-1))  # logit -1 of what is not
    assert part._edge_loss(code, adjacency, there).item() == pytest.approx((edge + other) / 2)
    adjacency.zero_()
    three = (2 * math.log(1 + math.exp(1)) + 4 * other) / 6  # no edge: six ordered pairs, all without
    assert part._edge_loss(code, adjacency, there).item() == pytest.approx(three / 2)


def test_a_mean_counts_only_what_is_there() -> None:
    values = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]])
    where = torch.tensor([[[True, False], [True, False]], [[False, False], [False, False]]])
    assert _mean(values, where).tolist() == [2.0, 0.0]


def test_codes_are_noisy_in_training_alone() -> None:
    net, given = model(), planets()
    first, again = (net(*given.values())["graph_reconstruction"] for _ in range(2))
    assert torch.equal(first, again)
    net.train()
    first, again = (net(*given.values())["graph_reconstruction"] for _ in range(2))
    assert not torch.allclose(first, again)


def test_frozen_parts_stay_as_they_are() -> None:
    net, given = model(frozen=("text", "graph"), dropout=0.5), planets()
    net.train()
    assert not net.text.training and not net.graph.training and net.cube.training and net.fusion.training
    trained = {name.split(".")[0] for name, parameter in net.named_parameters() if parameter.requires_grad}
    assert trained == {"cube", "fusion"}
    seen = [net.text(given["tokens"], given["token_mask"]) for _ in range(2)]
    assert torch.equal(*seen)
    net.eval()
    assert not net.fusion.training


@pytest.mark.parametrize("part", PARTS)
def test_a_model_of_one_modality_takes_and_has_nothing_else(part: str) -> None:
    net = model(modalities=(part,))
    given = planets()
    said = net(*(given[name] for name in INPUTS[part]))
    assert said["logits"].shape == (4, 3)
    assert {name.split(".")[0].split("_")[0] for name in net.state_dict()} <= {part, "fusion", "node", "cube"}
    assert not any(other in dict(net.named_children()) for other in PARTS if other != part)


def test_standardisation_is_part_of_the_model() -> None:
    net, given = model(), planets()
    before = net(*given.values())["logits"]
    net.cube_mean += 2.0
    net.cube_std *= 3.0
    given["cube"] = given["cube"] * 3 + 2
    torch.testing.assert_close(net(*given.values())["logits"], before, atol=1e-5, rtol=1e-5)


def write(path: Path, weights: dict[str, Tensor]) -> str:
    if path.suffix == ".safetensors":
        save_file({name: value.contiguous() for name, value in weights.items()}, path)
    else:
        torch.save(weights, path)
    return str(path)


def text_weights(net: PlanetModel) -> dict[str, Tensor]:
    return {name: value + 1 for name, value in net.state_dict().items() if name.startswith("text.")}


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_the_weights_of_one_part_are_loaded_and_the_others_stay(tmp_path: Path, suffix: str) -> None:
    net, other = model(), model()
    load_parts(net, write(tmp_path / f"text{suffix}", text_weights(other)))
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name] + name.startswith("text."))


def test_weights_that_are_not_those_of_the_part_are_refused(tmp_path: Path) -> None:
    whole = text_weights(model())
    short = {name: value for name, value in whole.items() if name != "text.places"}
    wrong = {**whole, "text.places": torch.zeros(3, 3)}
    for bad, said in (
        (short, r"1 missing \(text.places\)"),
        (wrong, r"1 of another shape \(text.places\)"),
        ({**whole, "speech.w": torch.zeros(1)}, r"1 unknown \(speech.w\)"),
        ({}, "bad.pt is empty"),
    ):
        with pytest.raises(DataError, match=said):
            load_parts(model(), write(tmp_path / "bad.pt", bad))
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "noise.safetensors").write_bytes(b"no tensors")
    for name in ("list.pt", "noise.safetensors"):
        with pytest.raises(DataError, match=name):
            load_parts(model(), str(tmp_path / name))
