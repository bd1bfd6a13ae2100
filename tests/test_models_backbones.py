"""What both mixtures ask of a backbone."""

import re
from typing import Any

import pytest
import timm
from timm.models import group_parameters

import mocse_timm.models  # noqa: F401  (registers the models)
from mocse_timm.models.backbones import parts_as_groups, pooling_name, prefix_groups
from mocse_timm.models.mixture import EXPERTS


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
    [prefixed] = prefix_groups({"group": pattern}, EXPERTS).values()
    assert re.match(prefixed, inside)
    assert not re.match(prefixed, outside)


def test_group_patterns_keep_their_ordinals() -> None:
    groups = prefix_groups({"blocks": [(r"^stages\.(\d+)", None), (r"^norm", (99999,))], "rest": ["^a", "^b"]}, EXPERTS)
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


def test_advmoe_counts_its_router_with_the_stem_and_every_parameter_once() -> None:
    model: Any = timm.create_model("advmoe_resnet18", width=0.125, device="meta")
    for coarse in (False, True):
        groups = group_parameters(model, model.group_matcher(coarse=coarse))
        names = [name for group in groups.values() for name in group]
        assert sorted(names) == sorted(name for name, _ in model.named_parameters())
        assert "router.fc.weight" in groups[0] and "body.stem.conv.weight" in groups[0]
        assert len(groups) == (6 if coarse else 10)  # stem, stages or blocks, classifier
