"""The plots of a run's page, with what each is called and how to read it: those that its method has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rambo_ray.acquisition.candidates import FILTER
from rambo_ray.report import plots, round_plots
from rambo_ray.report.content import ReportContent
from rambo_ray.report.gallery import data_uri
from rambo_ray.report.reading import number, signed
from rambo_ray.report.words import worded


@dataclass(frozen=True)
class Plot:
    """A plot, what it is called, how to read it, what it shows in words; source None: nothing to show."""

    title: str
    reading: str
    alt: str
    source: str | None


def selection_plots(content: ReportContent) -> list[Plot]:
    """How the images were picked; what u_hat made of them only where the run took its word."""
    return _worded(_selection_plots(content), content)


def _selection_plots(content: ReportContent) -> list[Plot]:
    made = [_margins(content)]
    if content.strategy is not None:
        return made
    if content.followed:
        made.append(_candidates(content))
        if content.config.acquisition.candidates != "partition" and content.selection.kinds:
            made.append(_winners(content))
    return made


def model_plots(content: ReportContent) -> list[Plot]:
    """How far u_hat is to be trusted."""
    return _worded(_model_plots(content), content)


def _worded(made: list[Plot], content: ReportContent) -> list[Plot]:
    """The same in the word for what the pool holds."""
    told = content.things
    return [Plot(worded(one.title, told), worded(one.reading, told), worded(one.alt, told), one.source) for one in made]


def _model_plots(content: ReportContent) -> list[Plot]:
    source = content.config.utility_samples.source
    made = [_held_out(content)]
    network = content.u_hat is None
    if network:
        made.append(_ranking(content))
    if source != "subsets":
        made.append(_rounds(content))
    if source != "mock_rounds":
        made += [_subsets(content), _transport(content)]
    return [*made, _losses(content)] if network else made


def _margins(content: ReportContent) -> Plot:
    selection, margin_pool = content.selection, content.config.acquisition.margin_pool
    some = margin_pool < content.problem.num_pool
    survey = content.problem.survey
    chosen_from = f"the M = {margin_pool:,} smallest" if some else "the whole pool"
    said = f"Small margins are images f is undecided on. The first step chose from {chosen_from}."
    if content.strategy is not None:  # which may look at all of the pool
        margin_pool = content.problem.num_pool
        said = "Small margins are images f is undecided on; a strategy that goes by something else takes others, too."
    return _plot(
        "Margins of the pool",
        said,
        "Histogram of the pool's margins with the picked images among them.",
        plots.margin_histogram(
            content.margins,
            selection.margin,
            margin_pool,
            None if survey is None else survey.histogram,
            content.things,
        ),
    )


def _candidates(content: ReportContent) -> Plot:
    cautious = ""
    if content.u_hat is not None and content.config.acquisition.caution:
        cautious = (
            f" The score is cautious: {content.config.acquisition.caution:g} standard errors are taken from what û "
            "promises beyond the margin filter."
        )
    return _plot(
        "Candidate batches",
        "What û makes of all images had so far together with one more batch, from the worst to the best "
        f"of a step. Where the dots lie close together, û saw little difference.{cautious}",
        f"Scores of the candidate batches in {len(content.selection.step_scores)} steps, with the batch taken.",
        plots.step_scores(content.selection.step_scores),
    )


def _winners(content: ReportContent) -> Plot:
    ask, kinds = content.config.acquisition, content.selection.kinds
    offered = []
    if ask.candidates in ("tilted", "mixed"):
        offered = [FILTER, *(f"tilted at {t:g}" for t in sorted(ask.temperatures, reverse=True))]
    said = "Where the margin filter won, û knew of nothing better than a random batch of the smallest margins."
    if ask.candidates in ("tilted", "mixed"):
        said = f"Tilted batches lean towards what û asks for; the lower the temperature, the more strictly. {said}"
    return _plot(
        "Kinds of batches taken",
        said,
        f"The kind of the batch taken in each of {len(kinds)} steps.",
        round_plots.winners(kinds, offered),
    )


def _held_out(content: ReportContent) -> Plot:
    held_out, utility = content.held_out, content.config.utility_samples.utility
    assert held_out is not None
    tau = number(content.metrics["ranking"].get("held_out_kendall_tau"))
    agreement = "" if tau is None else f" Kendall's τ is {signed(tau, 2)}."
    said = (
        "What û says of {} it was not fitted to, against what training on them gave: a rising cloud is a ranking that "
        "holds."
    )
    if content.config.utility_samples.source == "subsets":
        return _plot(
            "û on held-out subsets",
            f"{said.format('subsets')}{agreement}",
            f"Scatter of score and true utility of {len(held_out.scores)} held-out subsets.",
            plots.held_out(
                np.asarray(held_out.scores, np.float64), np.asarray(held_out.utilities, np.float64), utility
            ),
        )
    return _plot(
        "û on held-out mock rounds" if content.config.utility_samples.source == "mock_rounds" else "û on held-out sets",
        f"{said.format('larger rounds')} Only rounds of one half and one size are compared, so each is drawn less the "
        f"mean of its kind.{agreement}",
        f"Scatter of score and true utility of {len(held_out.scores)} held-out rounds, less the means of their groups.",
        round_plots.held_out_groups(held_out, utility, calibrated=content.u_hat is not None),
    )


def _rounds(content: ReportContent) -> Plot:
    k, budget = len(content.problem.labeled), content.config.acquisition.budget
    return _plot(
        "Mock rounds",
        f"Each dot is a classifier trained on the {k:,} labelled images and on images bought from one half of the "
        f"validation images; the other half judges. The real purchase is of {budget:,}.",
        "Scatter of utility against images bought, by the half that plays, those held out marked.",
        round_plots.rounds_by_size(content.samples, k, content.config.utility_samples.utility, content.things),
    )


def _ranking(content: ReportContent) -> Plot:
    return _plot(
        "Ranking while fitting",
        "Pairs in the right order. The longer pairs are not fitted to, but they steer the penalty.",
        "Ranking accuracy of shorter and longer pairs over the outer epochs.",
        plots.ranking_accuracies(content.history),
    )


def _subsets(content: ReportContent) -> Plot:
    return _plot(
        "Utility samples",
        "Subsets of the labelled images, each with a classifier trained on it. û learns from pairs of "
        "one size: from the height of the cloud, not from its rise.",
        "Scatter of subset size and utility, with the growing nested_sets marked.",
        plots.utility_by_size(content.samples, content.config.utility_samples.utility, content.things),
    )


def _transport(content: ReportContent) -> Plot:
    return _plot(
        "Distance to the validation images",
        "OTDD of the same subsets, which û learns to predict beside the ranking. A falling cloud says "
        "that closer subsets are worth more.",
        "Scatter of utility and optimal transport distance, shaded by subset size.",
        plots.transport_by_utility(content.samples, content.config.utility_samples.utility, content.things),
    )


def _losses(content: ReportContent) -> Plot:
    return _plot(
        "Losses of the fit",
        "Inner: on the shorter pairs, with the penalty on the weights. Outer: on the longer pairs, which "
        "decides that penalty. A line marks where pairs drawn from S₀, S₁, … join.",
        "Inner and outer loss over the outer epochs.",
        plots.losses(content.history),
    )


def _plot(title: str, reading: str, alt: str, picture: bytes | None) -> Plot:
    return Plot(title, reading, alt, None if picture is None else data_uri(picture, "png"))
