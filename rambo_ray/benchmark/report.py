"""The page of a benchmark: the headline, then panel by panel plots and tables, what failed, how it was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rambo_ray.benchmark import plots as benchmark_plots
from rambo_ray.benchmark import results as benchmark_results
from rambo_ray.benchmark.experiment import CEILINGS, Panel
from rambo_ray.benchmark.results import METRICS, Results
from rambo_ray.benchmark.runs import Failure
from rambo_ray.report import gallery, tables


def pictures(results: Results) -> dict[str, bytes]:
    """The experiment's plots as PNGs by file name without its end; none where nothing is finished."""
    found: dict[str, bytes | None] = {}
    for metric in results.metrics():
        short = "test" if metric == "test_accuracy" else "val"
        for panel in results.experiment.panels:
            found[f"{slug(panel)}_{short}"] = benchmark_plots.curves(results, panel, metric)
            found[f"{slug(panel)}_{short}_leads"] = benchmark_plots.leads(results, panel, metric)
        found[f"along_{short}"] = benchmark_plots.along(results, metric)
    return {name: picture for name, picture in found.items() if picture is not None}


def slug(panel: Panel) -> str:
    """A panel's name as part of a file name."""
    return "".join(c if c.isalnum() else "_" for c in panel.name.lower())


def render(
    results: Results, plots: Mapping[str, bytes], failures: Sequence[Failure], missing: int, command: str
) -> str:
    """The page as HTML; missing: runs that are not finished; command: what made it."""
    experiment = results.experiment
    panels = [
        {
            "name": panel.name,
            "about": about(panel),
            "plots": _shown(plots, slug(panel)),
            "tables": [
                (
                    f"Accuracy on {METRICS[metric]}, percent",
                    benchmark_results.header(results, panel, metric),
                    benchmark_results.table(results, panel, metric),
                )
                for metric in results.metrics()
            ],
            "remarks": benchmark_results.remarks(results, panel),
            "times": benchmark_results.times(results, panel),
            "paper_minutes": panel.paper_minutes,
        }
        for panel in experiment.panels
    ]
    return gallery.template("benchmark.html.j2").render(
        title=experiment.title,
        name=experiment.name,
        note=experiment.note,
        headline=benchmark_results.headline(results),
        along=_shown(plots, "along"),
        panels=panels,
        times_header=benchmark_results.TIMES,
        failures=failures,
        finished=len(results.runs),
        missing=missing,
        oracle=any(method.kind in CEILINGS for method in experiment.methods),
        command=command,
        column=gallery.TILE,
    )


def markdown(results: Results, command: str) -> str:
    """The headline and the tables as Markdown, for a README."""
    parts = [f"# {results.experiment.title}", f"`{command}`", results.experiment.note]
    parts += [f"- {sentence}" for sentence in benchmark_results.headline(results)]
    for panel in results.experiment.panels:
        parts.append(f"## {panel.name}\n\n{about(panel)}")
        for metric in results.metrics():
            head = benchmark_results.header(results, panel, metric)
            text = tables.markdown(head, benchmark_results.table(results, panel, metric))
            parts.append(f"Accuracy on {METRICS[metric]}, percent:\n\n{text}")
        parts += benchmark_results.remarks(results, panel)
        rows = benchmark_results.times(results, panel)
        parts.append(f"Seconds of one thread:\n\n{tables.markdown(benchmark_results.TIMES, rows)}")
    return "\n\n".join(part for part in parts if part) + "\n"


def about(panel: Panel) -> str:
    """A panel's setting in a line."""
    config = panel.config
    split = "the split of seed 0 for all seeds" if panel.split == "fixed" else "a split of its own for each seed"
    ask = config.acquisition
    return (
        f"k={config.data.num_labeled}, {config.utility_samples.num_pairs} offline pairs, b={ask.batch_size}, "
        f"M={ask.margin_pool}, {config.data.num_validation} validation images, {split}."
    )


_TITLES = {
    "test": "Accuracy on test",
    "val": "Accuracy on S_val",
    "test_leads": "Leads on test",
    "val_leads": "Leads on S_val",
}


def _shown(plots: Mapping[str, bytes], group: str) -> list[tuple[str, str]]:
    """Titles and data URIs of the plots of one group: a panel's slug, or `along`."""
    names = {f"{group}_{kind}": title for kind, title in _TITLES.items()}
    return [(names[name], gallery.data_uri(png, "png")) for name, png in plots.items() if name in names]
