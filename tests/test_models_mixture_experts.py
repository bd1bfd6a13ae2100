"""Names of layers inside a mixture."""

from mocse_timm.models.mixture_experts import expert_layer_names


def test_layer_names_stand_in_every_expert() -> None:
    assert expert_layer_names("fc", 2) == ("experts.0.fc", "experts.1.fc")
    assert expert_layer_names(["head", "head_dist"], 2)[1:3] == ("experts.0.head_dist", "experts.1.head")
    assert expert_layer_names(None, 2) == ()
