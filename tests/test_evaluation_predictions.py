"""One pass over the data: each expert once, flags put back, broken weights named."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mocse_timm.checks import BadInput
from mocse_timm.evaluation.predictions import predict
from mocse_timm.models.mocse import MoCSE


def batches(sizes: tuple[int, ...] = (3, 2)) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [(torch.rand(size, 3, 16, 16, generator=generator), torch.arange(size)) for size in sizes]


def small_model() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4), nn.Dropout(0.5), nn.BatchNorm1d(4))


def small_mixture(num_classes: int = 3, **options: Any) -> MoCSE:
    torch.manual_seed(0)
    return MoCSE(backbone="cifar_preact18", expert_width=0.125, num_classes=num_classes, **options)


def test_logits_and_labels_stand_in_the_loader_s_order() -> None:
    model = small_model()
    predictions = predict(model, batches(), device="cpu")
    images = torch.cat([images for images, _ in batches()])
    torch.testing.assert_close(predictions.logits, model.eval()(images).detach())
    assert predictions.labels.tolist() == [0, 1, 2, 0, 1]
    assert predictions.logits.dtype == torch.float32
    assert predictions.expert_log_odds is None


def test_train_flags_and_statistics_are_as_before() -> None:
    model = small_model()
    frozen = model[3].eval()
    assert isinstance(frozen, nn.BatchNorm1d) and frozen.running_mean is not None
    predict(model, batches(), device="cpu")
    assert model.training and model[2].training and not frozen.training
    assert torch.equal(frozen.running_mean, torch.zeros(4))


def test_each_expert_runs_once_per_batch() -> None:
    model = small_mixture()
    calls = []
    for expert in model.experts:
        expert.register_forward_hook(lambda module, *_: calls.append(module))
    predict(model, batches(), device="cpu")
    assert len(calls) == 3 * len(batches())


@pytest.mark.parametrize("aggregation", ["log_odds", "log_confidence", "confidence"])
def test_mixture_gives_its_own_scores_and_the_experts_log_odds(aggregation: str) -> None:
    model = small_mixture(aggregation=aggregation)
    predictions = predict(model, batches(), device="cpu")
    images = torch.cat([images for images, _ in batches()])
    with torch.inference_mode():
        expert_logits = model.eval().forward_experts(images)
        torch.testing.assert_close(predictions.logits, model(images))
    torch.testing.assert_close(predictions.expert_log_odds, expert_logits[:, :, 1] - expert_logits[:, :, 0])


def test_experts_of_groups_give_one_number_a_class() -> None:
    model = small_mixture(num_classes=5, num_experts=2, aggregation="confidence")
    predictions = predict(model, batches(), device="cpu")
    assert predictions.expert_log_odds is not None
    assert predictions.logits.shape == predictions.expert_log_odds.shape == (5, 5)
    torch.testing.assert_close(predictions.expert_log_odds.sigmoid(), predictions.logits)  # the experts' confidences


def test_16_bits_and_channels_last_reach_the_model_and_change_little() -> None:
    model = small_mixture()
    plain = predict(model, batches(), device="cpu")
    seen = []
    model.experts[0].register_forward_hook(
        lambda _, images, logits: seen.append(
            (images[0].is_contiguous(memory_format=torch.channels_last), logits.dtype)
        )
    )
    fast = predict(model, batches(), device="cpu", amp_dtype=torch.bfloat16, channels_last=True)
    assert seen == [(True, torch.bfloat16)] * len(batches())
    assert fast.logits.dtype == torch.float32
    torch.testing.assert_close(fast.logits, plain.logits, atol=0.1, rtol=0.1)


def test_gather_is_called_once_for_each_tensor_and_its_rows_are_kept() -> None:
    calls = []

    def twice(tensor: Tensor) -> Tensor:
        calls.append(tuple(tensor.shape))
        return torch.cat([tensor, tensor])

    predictions = predict(small_mixture(), batches(), device="cpu", gather=twice)
    assert calls == [(5, 3), (5,), (5, 3)]
    assert predictions.labels.tolist() == [0, 1, 2, 0, 1] * 2


def test_broken_weights_are_named() -> None:
    model = small_model()
    linear = model[1]
    assert isinstance(linear, nn.Linear)
    nn.init.constant_(linear.weight, float("nan"))
    with pytest.raises(BadInput, match="NaN or infinite class scores on 5 of 5 images"):
        predict(model, batches(), device="cpu")


def test_an_empty_loader_is_refused() -> None:
    with pytest.raises(BadInput, match="no images"):
        predict(small_model(), [], device="cpu")
