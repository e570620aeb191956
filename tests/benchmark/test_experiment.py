"""Experiments: those that ship can be run, and what is wrong with one is said before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from rambo_ray.benchmark import experiment
from rambo_ray.benchmark.experiment import Experiment, is_nested
from rambo_ray.config.schema import AcquisitionConfig
from rambo_ray.errors import UserError

JOBS = Path(__file__).parents[2] / "jobs"
SMOKE = {
    "title": "t",
    "panels": [{"config": "digits_smoke.yaml", "set": {"method": "paper"}}],
    "methods": ["random", "margin_m_random", "rambo"],
    "budgets": [20],
    "seeds": 2,
}


def load(
    folder: Path, *overrides: str, num_seeds: int | None = None, only_budgets: Any = None, **keys: Any
) -> Experiment:
    path = folder / "own.yaml"
    path.write_text(yaml.safe_dump({**SMOKE, **keys}))
    return experiment.load(path, JOBS / "configs", overrides, num_seeds, only_budgets)


@pytest.mark.parametrize("path", sorted((JOBS / "experiments").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_experiments_are_sound(path: Path) -> None:
    made = experiment.load(path, JOBS / "configs")
    assert made.name == path.stem and made.title and made.seeds
    for panel in made.panels:
        assert panel.config.classifier.precision != "auto"
        for method in made.methods:
            for budget in made.budgets:
                config = made.config(panel, method, budget, seed=3)
                assert config.acquisition.budget == budget and config.seed == 3


def test_experiments_with_stored_runs_are_the_paper_s() -> None:
    """And keep the sizes that those runs had; a panel that says nothing takes this package's method."""
    results = JOBS.parent / "results"
    named = {folder.name for folder in results.iterdir() if folder.is_dir()}
    older = {"cifar10_small", "digits", "fashion_mnist", "fashion_mnist_500_pairs", "fixed_split", "mnist", "table1"}
    assert not named or older <= named
    for name in older:
        for panel in experiment.load(JOBS / "experiments" / f"{name}.yaml", JOBS / "configs").panels:
            assert panel.config.method == "paper" and panel.config.utility_samples.source == "subsets"
            assert panel.config.acquisition.candidates == "partition"


def test_a_method_is_decided_by_file_panel_and_command_together(tmp_path: Path) -> None:
    panels = [
        {"config": "digits_smoke.yaml", "name": "ours"},
        {"config": "digits_smoke.yaml", "name": "paper's", "set": {"method": "paper"}},
    ]
    keys = {"panels": panels, "methods": ["margin_m_random", "rambo", "rambo_paper"]}
    ours, paper = (panel.config for panel in load(tmp_path, **keys).panels)
    assert (ours.utility_samples.source, paper.utility_samples.source) == ("mock_rounds", "subsets")
    assert ours.utility_samples.num_pairs == paper.utility_samples.num_pairs == 6  # the file's
    # An override is no label: what follows from the method follows from this one.
    swapped = load(tmp_path, "method=paper", **keys).panels[0].config
    assert swapped == paper
    made = load(tmp_path, **keys)
    own, theirs = (made.config(made.panels[0], method, 20, 0) for method in made.methods[1:])
    assert own.utility_samples.source == "mock_rounds" and theirs.utility_samples.source == "subsets"
    assert theirs.utility_samples.num_pairs == 6 and theirs.utility_model.architecture == "network"


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_the_ablation_tables_switch_each_part_on_and_off(number: int) -> None:
    made = experiment.load(JOBS / "experiments" / f"table{number}.yaml", JOBS / "configs")
    (panel,) = made.panels
    found = {}
    for method in made.methods:
        model = made.config(panel, method, made.budgets[0], 0).utility_model
        if method.kind == "rambo":
            found[method.name] = (model.bilevel, model.lambda_ot, model.objective)
    assert len(set(found.values())) == 8 and found["rambo"] == (True, 1.0, "ranknet")
    for name, (bilevel, lambda_ot, objective) in found.items():
        if name != "rambo":
            said = ("bilevel" in name, "OT" in name, "RankNet" in name)
            assert said == (bilevel, lambda_ot == 1, objective == "ranknet")
    assert set(panel.paper[made.budgets[0]]) == {*found, "random"}


def test_a_cells_configuration(tmp_path: Path) -> None:
    without = {"name": "no OT", "method": "rambo", "set": {"utility_model.lambda_ot": 0.0}}
    methods = ["random", "margin_m_random", without]
    panels = [
        {"config": "digits_smoke.yaml", "set": {"method": "paper", "acquisition.batch_size": 5}},
        {"config": "digits_smoke.yaml", "split": "fixed", "name": "same split", "set": {"method": "paper"}},
    ]
    made = load(tmp_path, "acquisition.margin_pool=70", panels=panels, methods=methods)
    assert [panel.name for panel in made.panels] == ["digits", "same split"]
    one = made.config(made.panels[0], made.methods[2], 20, seed=7)
    assert (one.seed, one.data.split_seed, one.utility_model.lambda_ot) == (7, None, 0.0)
    assert (one.acquisition.batch_size, one.acquisition.margin_pool) == (5, 70)
    assert made.config(made.panels[1], made.methods[0], 20, seed=7).data.split_seed == 0


def test_overrides_have_the_last_word(tmp_path: Path) -> None:
    panels = [{"config": "digits_smoke.yaml", "set": {"utility_samples.num_pairs": 8}}]
    assert load(tmp_path, panels=panels).panels[0].config.utility_samples.num_pairs == 8
    made = load(tmp_path, "utility_samples.num_pairs=9", panels=panels)
    assert made.panels[0].config.utility_samples.num_pairs == 9


def test_a_panel_may_have_seeds_of_its_own(tmp_path: Path) -> None:
    panels = [
        {"config": "digits_smoke.yaml"},
        {"config": "digits_smoke.yaml", "name": "fewer", "seeds": 1},
        {"config": "digits_smoke.yaml", "name": "others", "seeds": [7, 1, 3]},
    ]
    made = load(tmp_path, panels=panels)
    assert [panel.seeds for panel in made.panels] == [(0, 1), (0,), (7, 1, 3)] and made.seeds == (0, 1, 7, 3)
    part = load(tmp_path, panels=panels, num_seeds=2)
    assert [panel.seeds for panel in part.panels] == [(0, 1), (0,), (7, 1)]
    with pytest.raises(UserError, match="--seeds 4: must be 1 to 3"):
        load(tmp_path, panels=panels, num_seeds=4)


def test_fewer_seeds_and_budgets(tmp_path: Path) -> None:
    whole = load(tmp_path, budgets=[20, 10], seeds=[4, 2])
    assert (whole.budgets, whole.seeds) == ((10, 20), (4, 2))
    part = load(tmp_path, budgets=[20, 10], seeds=[4, 2], num_seeds=1, only_budgets=[10])
    assert (part.budgets, part.seeds) == ((10,), (4,))


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        ({"methods": ["random", "badger"]}, "methods: badger: no such method; did you mean 'badge'?"),
        ({"methods": ["random", "margin"]}, "control=margin_m_random: must be one of this experiment's methods"),
        ({"methods": ["margin_m_random", "margin_m_random"]}, "methods: margin_m_random: occurs twice"),
        ({"method": ["random"]}, "method: unknown key; did you mean 'methods'?"),
        ({"budgets": [20, 20]}, "budgets: 20: occurs twice"),
        ({"budgets": []}, "budgets=[]: List should have at least 1 item"),
        ({"budgets": [0]}, "budgets: 0=0: should be greater than or equal to 1"),
        ({"seeds": [1, 1]}, "seeds: 1: occurs twice"),
        ({"panels": [{"config": "digit.yaml"}]}, "panels: config=digit.yaml: no such file in"),
        ({"panels": [{"config": "digits_smoke.yaml", "sets": {}}]}, "0: sets: unknown key; did you mean 'set'?"),
        ({"panels": [{"config": "digits_smoke.yaml"}] * 2}, "panels: digits: occurs twice"),
        ({"panels": [{"config": "digits_smoke.yaml", "set": {"acquisition.m": 3}}]}, "acquisition.m: unknown key"),
        ({"panels": [{"config": "digits_smoke.yaml", "set": {"acq.m": 3}}]}, "acq.m: unknown key"),
        ({"panels": [{"config": "digits_smoke.yaml", "paper": {20: {"badge": [1.0, 0.1]}}}]}, "20: badge: no such"),
        ({"along": {"key": "data.k", "label": "k"}}, "along.key=data.k: unknown key"),
        (
            {"methods": ["margin_m_random", {"name": "x", "method": "rambo", "set": {"data.num_labeled": 3}}]},
            "methods: x: data.num_labeled: a method may set keys of utility_model and acquisition",
        ),
        ({"budgets": [3]}, "b must not exceed acquisition.budget=3"),
        (
            {
                "panels": [{"config": "digits_smoke.yaml"}],
                "methods": [
                    "margin_m_random",
                    {"name": "x", "method": "rambo", "set": {"utility_model.lambda_ot": 0.0}},
                ],
            },
            "methods: x: utility_model.lambda_ot: is not read where utility_model.architecture=quadratic; set method",
        ),
    ],
)
def test_what_is_wrong_is_said_in_a_line(tmp_path: Path, keys: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError) as error:
        load(tmp_path, **keys)
    text = str(error.value)
    assert text.startswith("--experiment own: ") and line in text and "\n" not in text


def test_options_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--seeds 3: must be 1 to 2"):
        load(tmp_path, num_seeds=3)
    with pytest.raises(UserError, match="--budgets 30: must be of 20"):
        load(tmp_path, only_budgets=[30])
    own = ["data.name=own", "data.labeled=a", "data.validation=b", "data.pool=c"]
    with pytest.raises(UserError, match="has no labels of the pool"):
        load(tmp_path, *own)


def test_which_selections_are_nested() -> None:
    ask = AcquisitionConfig(budget=100, batch_size=10, margin_pool=50)
    assert is_nested("rambo", ask, [20, 40, 45]) and not is_nested("rambo", ask, [20, 25, 40])
    assert is_nested("margin_m_balanced", ask, [20, 45]) and not is_nested("margin_m_balanced", ask, [20, 60])
    for candidates, nested in (("partition", True), ("tilted", True), ("strategies", False), ("mixed", False)):
        proposing = ask.model_copy(update={"candidates": candidates})
        assert is_nested("rambo", proposing, [20, 40]) is nested and is_nested("rambo", proposing, [20])
        assert is_nested("margin_m_random", proposing, [20, 40])
    assert is_nested("badge", ask, [1, 2]) and not is_nested("typiclust", ask, [1, 2])
    assert is_nested("min_margin", ask, [1, 2]) and is_nested("oracle_balanced", ask, [1, 99])
    assert is_nested("posterior_balance", ask, [20, 45]) and not is_nested("posterior_balance", ask, [20, 60])
    assert is_nested("margin_accepted", ask, [20]) and not is_nested("margin_accepted", ask, [20, 40])
    assert is_nested("oracle_strategies", ask, [20, 40]) and not is_nested("oracle_strategies", ask, [25, 40])
