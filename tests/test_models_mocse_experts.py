import re
from typing import Any

import pytest
import timm
from timm.models import group_parameters

import mocse_timm.models  # noqa: F401  (registers the models)
from mocse_timm.models.mocse_experts import expert_layer_names, parts_as_groups, pooling_name, prefix_groups


def test_layer_names_stand_in_every_expert() -> None:
    assert expert_layer_names("fc", 2) == ("experts.0.fc", "experts.1.fc")
    assert expert_layer_names(["head", "head_dist"], 2)[1:3] == ("experts.0.head_dist", "experts.1.head")
    assert expert_layer_names(None, 2) == ()


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        (r"^stem", "experts.3.stem.weight", "experts.3.head.stem"),
        (r"^stem|^conv1", "trunk.conv1.weight", "experts.3.x.conv1"),
        (r"^x\.([^.]+)\.w", "experts.10.x.ab.w", "experts.10.x.a.b.w"),
        (r"cls_token|pos_embed", "experts.0.pos_embed", "head.pos_embed"),
    ],
)
def test_group_patterns_match_inside_every_expert(pattern: str, inside: str, outside: str) -> None:
    [prefixed] = prefix_groups({"group": pattern}).values()
    assert re.match(prefixed, inside)
    assert not re.match(prefixed, outside)


def test_group_patterns_keep_their_ordinals() -> None:
    groups = prefix_groups({"blocks": [(r"^stages\.(\d+)", None), (r"^norm", (99999,))], "rest": ["^a", "^b"]})
    match = re.match(groups["blocks"][0][0], "experts.7.stages.2.weight")
    assert match is not None
    assert match.groups() == ("2",)
    assert groups["blocks"][1][1:] == ((99999,),)
    assert len(groups["rest"]) == 2


def test_a_backbone_without_groups_has_one_for_each_part() -> None:
    groups = parts_as_groups(timm.create_model("pit_ti_224", device="meta"))
    assert list(groups) == ["pos_embed", "cls_token", "patch_embed", "transformers", "norm", "head"]
    model: Any = timm.create_model("mocse", backbone="pit_ti_224", num_classes=2, device="meta")
    layers = group_parameters(model, model.group_matcher())
    assert len(layers) == 6


@pytest.mark.parametrize(
    ("name", "pool"), [("cifar_preact18", "avg"), ("test_vit", "token"), ("test_resnet", "avg"), ("nest_tiny", "avg")]
)
def test_pooling_is_named_as_timm_names_it(name: str, pool: str) -> None:
    assert pooling_name(timm.create_model(name, device="meta")) == pool
