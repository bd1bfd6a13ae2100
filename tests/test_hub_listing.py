"""The list of published models, asked from a Hub on this machine by the real client: see hub_server.client_of."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_faults import Fault
from hub_runs import clean_scores, corrupted, make_run
from hub_server import HubServer, client_of, hub_server
from huggingface_hub import EvalResult, ModelCardData

from mocse_timm.checks import BadInput
from mocse_timm.hub.card import build_card
from mocse_timm.hub.listing import list_models, render_models


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hub_server() as server:
        client_of(server, tmp_path, monkeypatch)
        yield server


def _card(*scores: tuple[str | None, float], tags: tuple[str, ...] = ("timm", "mocse_timm")) -> bytes:
    results = [
        EvalResult("image-classification", "cifar10", "CIFAR-10", "accuracy", value, dataset_config=config)
        for config, value in scores
    ]
    data = ModelCardData(tags=list(tags), model_name="m" if results else None, eval_results=results or None)
    return f"---\n{data}\n---\nA card.\n".encode()


def test_rows_hold_what_hub_and_card_say(hub: HubServer) -> None:
    scored = _card((None, 85.07), ("mean of 15 corruptions", 72.52), ("fog", 60.0))
    hub.add("alice/scored", {"README.md": scored}, downloads=3, likes=1)
    hub.add("bob/bare", {"README.md": _card()}, downloads=7)
    hub.add("bob/other", {"README.md": _card(tags=("timm",))}, downloads=99)
    hub.add("alice/hidden", {"README.md": scored}, private=True)
    bare, listed = list_models()
    assert (listed.name, listed.downloads, listed.likes) == ("alice/scored", 3, 1)
    assert (listed.accuracy, listed.corrupted) == (85.07, 72.52)
    assert listed.last_modified == hub.repositories["alice/scored"].last_modified.replace(microsecond=0)
    assert (bare.name, bare.accuracy, bare.corrupted) == ("bob/bare", None, None)
    assert [model.name for model in list_models("alice")] == ["alice/scored"]


def test_the_table_is_read_from_left_to_right(hub: HubServer) -> None:
    hub.add("alice/scored", {"README.md": _card((None, 85.07))}, downloads=3)
    head, row, *_ = render_models(list_models()).splitlines()
    assert head.split() == "model accuracy % 15 corruptions % downloads likes last modified".split()
    day = f"{hub.repositories['alice/scored'].last_modified:%Y-%m-%d}"
    assert row.split() == ["alice/scored", "85.07", "-", "3", "0", day]
    assert render_models([]) == f"no model on {hub.url} has the tag mocse_timm"


def test_all_pages_are_read(hub: HubServer) -> None:
    hub.page_size = 2
    for number in range(5):
        hub.add(f"alice/m{number}", {"README.md": _card()})
    assert [model.name for model in list_models("alice")] == [f"alice/m{number}" for number in range(5)]


def test_our_own_cards_are_understood(hub: HubServer, tmp_path: Path) -> None:
    scores = corrupted()
    run = make_run(tmp_path / "run", corruptions=scores)
    hub.add("alice/small", {"README.md": build_card(run, repo_id="alice/small").encode()})
    [model] = list_models()
    mean = scores.mean("benchmark")
    assert mean is not None
    assert (model.accuracy, model.corrupted) == (round(clean_scores(experts=True).top1, 2), round(mean.top1, 2))


def test_a_part_of_the_corruptions_is_not_the_15(hub: HubServer, tmp_path: Path) -> None:
    whole = corrupted()
    parts = {
        "14": whole.only([name for name in whole.corruptions if name != "frost"]),
        "3": whole.only(whole.corruptions[:3]),
        "mild": whole.only(whole.corruptions, [1, 2]),
    }
    for name, scores in parts.items():
        card = build_card(make_run(tmp_path / name, corruptions=scores), repo_id=f"alice/{name}")
        hub.add(f"alice/{name}", {"README.md": card.encode()})
        assert "config: mean of" in card and "config: mean of 15 corruptions" not in card
    assert "config: mean of 15 of 15 corruptions, severities 1 2" in card
    assert {model.name: model.corrupted for model in list_models()} == {f"alice/{name}": None for name in parts}


ODD = "[{{name: m, results: [{{task: {{type: t}}, dataset: {}, metrics: [{{type: accuracy, value: {}}}]}}]}}]"
ODD_VALUES = [ODD.format("{type: d, name: n}", value) for value in (".nan", ".inf", "1e300", "-1", "9" * 400)]


@pytest.mark.parametrize(
    "index",
    [
        "[3]", "[{name: m}]", "[{name: m, results: [{task: 3}]}]", "words", *ODD_VALUES,
        ODD.format("{type: d, name: n, config: [1]}", "50"),
    ],
)  # fmt: skip
def test_a_card_that_is_wrong_has_no_scores(hub: HubServer, index: str) -> None:
    hub.add("eve/odd", {"README.md": f"---\ntags: [mocse_timm]\nmodel-index: {index}\n---\n".encode()})
    hub.add("alice/scored", {"README.md": _card((None, 85.07))})
    good, model = list_models()
    assert (good.accuracy, model.name, model.accuracy) == (85.07, "eve/odd", None)


def test_a_hub_that_fails_once_is_asked_again(hub: HubServer) -> None:
    hub.add("alice/m", {"README.md": _card()})
    hub.order(Fault("GET", "/api/models$", status=500))
    assert [model.name for model in list_models()] == ["alice/m"]
    hub.order(Fault("GET", "/api/models$", times=1000, status=500))
    with pytest.raises(BadInput, match="cannot list the models tagged 'mocse_timm': the Hub fails"):
        list_models()
