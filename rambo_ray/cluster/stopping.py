"""A trial that Tune ends early, and what its trainer holds.

The trial's process is killed, and Ray Train's processes die with it; but what they were placed in stays reserved for
as long as the job lasts, unless a dashboard runs, by which Ray Train's own cleaner learns of the death. So each report
says what the trainer is placed in, and it is removed here.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import ray
from ray import tune
from ray.tune.integration.ray_train import TuneReportCallback
from ray.util.placement_group import PlacementGroup, placement_group_table, remove_placement_group

_LOOK_S = 0.5
_DYING_S = 1.0  # from the death of a trial's process to that of the processes it owns


class Told(TuneReportCallback):
    """Tells Tune of each outer epoch of a fit as Ray Train learns of it, in the words of `sweep.trial.evaluate`."""

    def __init__(self, outer_epochs: int) -> None:
        """outer_epochs: of each iteration of the fit. To be made in a trial's process."""
        super().__init__()
        self.outer_epochs = outer_epochs

    def after_report(self, run_context: Any, metrics: list[dict[str, Any]], checkpoint: Any) -> None:
        """Called by Ray Train with the metrics of all ranks."""
        first = metrics[0]
        told = {
            "epoch": int((first["iteration"] + 1) * self.outer_epochs + first["epoch"] + 1),
            "ranking": first["val_ranking_accuracy"],
            "placement_group": first["placement_group"],
            "monitor": first["monitor"],
        }
        super().after_report(run_context, [told], None)


class Freed(tune.Callback):
    """Frees what the trainers of ended trials still hold."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[str, str]] = {}  # by trial: placement group, monitor

    def __getstate__(self) -> dict[str, Any]:
        return {"held": {}}  # Tune saves its callbacks with the experiment

    def on_trial_result(self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **_: Any) -> None:
        """Remembers what the trial's trainer is placed in."""
        if result.get("placement_group"):
            self.held[trial.trial_id] = (result["placement_group"], result["monitor"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """The trial has ended, whether by itself or not."""
        self._free(trial)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """The trial has failed."""
        self._free(trial)

    def _free(self, trial: Any) -> None:
        if trial.trial_id in self.held:
            threading.Thread(target=_freed, args=self.held.pop(trial.trial_id), daemon=True).start()


def _freed(group: str, monitor: str) -> None:
    """Remove a placement group once the process that asked for it is dead, if nobody else has."""
    try:
        while ray.is_initialized() and _alive(monitor):
            time.sleep(_LOOK_S)
        time.sleep(_DYING_S)
        if not ray.is_initialized():  # or asking would start another Ray
            return
        if placement_group_table().get(group, {}).get("state", "REMOVED") != "REMOVED":
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(group))))
    except Exception:  # the job is over, and everything is freed with it
        return


def _alive(name: str) -> bool:
    try:
        ray.get_actor(name)
    except ValueError:
        return False
    return True
