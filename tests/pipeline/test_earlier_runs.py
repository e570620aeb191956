"""Output directories that were begun when the paper's method was the only one."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import yaml

from rambo_ray.config import loading
from rambo_ray.config.schema import Config
from rambo_ray.data import datasets
from rambo_ray.errors import UserError
from rambo_ray.pipeline import plan
from rambo_ray.pipeline.outputs import Output


def claim(folder: Path, config: Config) -> None:
    with Output.claim(folder, config):
        pass


class TestBeforeThereWasAMethod:
    """A configuration that was written when the paper's method was the only one does not name it."""

    def left_by(self, folder: Path) -> Path:
        config = loading.parse({"method": "paper"}).model_dump()
        newer = {"method": None, "utility_samples": ("source",), "utility_model": ("architecture", "fit_on"),
                 "acquisition": ("candidates", "temperatures", "draws", "caution")}  # fmt: skip
        for section, names in newer.items():
            for name in names or ():
                del config[section][name]
        del config["method"]
        folder.mkdir()
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        return folder

    def test_the_paper_s_run_goes_on(self, tmp_path: Path) -> None:
        folder = self.left_by(tmp_path / "run")
        claim(folder, loading.parse({"method": "paper"}))
        assert loading.load(folder / "config.yaml").method == "paper"  # it is said from now on

    def test_mock_rounds_are_another_run(self, tmp_path: Path) -> None:
        folder = self.left_by(tmp_path / "run")
        before = (folder / "config.yaml").read_bytes()
        with pytest.raises(UserError, match="holds a run with method=paper, this one has mock_rounds"):
            claim(folder, Config())
        assert (folder / "config.yaml").read_bytes() == before and len(list(folder.iterdir())) == 1

    def test_the_name_of_the_method_alone_makes_no_other_run(self, tmp_path: Path) -> None:
        paper = loading.parse({"method": "paper"})
        claim(tmp_path / "run", paper)
        claim(tmp_path / "run", loading.with_values(Config(), {**loading.flatten(paper), "method": "mock_rounds"}))


@pytest.mark.parametrize(("method", "expected"), [("paper", "005f92f51e589a88"), ("mock_rounds", "0e4e6f17f7f073c8")])
def test_samples_are_known_by_the_ids_they_always_had(method: str, expected: str) -> None:
    """Stores of utility samples go back to the first version; where their ids change, all is trained again."""
    config = loading.load(
        Path(__file__).parents[2] / "jobs" / "configs" / "digits_smoke.yaml",
        [f"method={method}", "classifier.precision=float32", "utility_samples.repeats=2"],
    )
    problem, _ = datasets.load(config.data, 0)
    ids = "".join(sample.sample_id for sample in plan.make(config, problem).all_samples)
    assert hashlib.sha256(ids.encode()).hexdigest()[:16] == expected
