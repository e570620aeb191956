"""The commands of `rambo` and the options of each; what they share is in `rambo_ray.cli.entry`.

A new command is a line of COMMANDS, a function with its options, and a module with its work.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from rambo_ray.cli.entry import Command, Parser

EXPORTED = ("label-studio", "cvat", "coco", "csv", "folder")
RETURNED = ("labels", "label-studio", "cvat", "coco", "csv", "folder")
FOLDS = 12  # rounds of a backtest where nobody says how many


def _run(parser: Parser) -> None:
    parser.description = "Pick the pool images to send to the annotators (RAMBO, one-round active learning)."
    parser.epilog = (
        "A configuration is a file, keys on the command line, or both; the command line wins. Every key, its default "
        "and its meaning: %(prog)s --keys\n\nexamples:\n"
        "  %(prog)s --config digits --output runs/digits\n"
        "  %(prog)s --config digits --output runs/digits acquisition.budget=200\n"
        "  %(prog)s --output runs/mine data.name=own data.labeled=photos/labeled \\\n"
        "      data.validation=photos/validation data.pool=photos/pool"
    )
    parser.config_option()
    parser.output_option("output directory; the same one again resumes the run", required=False)
    _rounds(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what the run would cost on this cluster, and exit")
    parser.add_argument("--keys", action=_Keys, nargs=0, help="list all configuration keys and exit")
    parser.display_options()
    parser.overrides()


def _rounds(parser: Parser) -> None:
    parser.add_argument("--round", metavar="N", type=int, help="go on after round N - 1, whose directory --after names")
    parser.add_argument("--after", metavar="DIR", help="output directory of the round before; its answers join S_0")
    answers = "where these answers are: annotations, by rambo labels; revealed, a benchmark's hidden labels"
    parser.add_argument("--answers", choices=("annotations", "revealed"), help=answers)


def _inspect(parser: Parser) -> None:
    parser.description = "Say what a run would read, and what is wrong with it or seldom meant; nothing is run."
    parser.epilog = "Exit code 2 where a run would be refused, with every reason that can be found."
    parser.config_option()
    _rounds(parser)
    parser.overrides()


def _collect(parser: Parser) -> None:
    parser.description = "Collect a run's utility samples: retrain the classifier on subsets of the labelled images."
    parser.epilog = "rambo run with the same configuration and --output goes on from what is collected."
    parser.config_option()
    parser.output_option("output directory of the run")
    parser.display_options()
    parser.overrides()


def _plan(parser: Parser) -> None:
    parser.description = "Say what a run and a backtest would cost on this machine or cluster; nothing is written."
    parser.epilog = "A few small trainings are timed; rambo run --dry-run says the same of the run alone."
    parser.config_option()
    _rounds(parser)
    _folds(parser)
    parser.display_options()
    parser.overrides()


def _backtest(parser: Parser) -> None:
    parser.description = (
        "Will this beat random on these images? Plays the round with labelled images only, by RAMBO, its margin "
        "filter, published strategies and random, and says what each gains."
    )
    parser.epilog = "The same command again goes on where it stopped; more --folds make intervals shorter."
    parser.config_option()
    parser.output_option("directory for the verdict and the played rounds; default: nothing is kept", required=False)
    _rounds(parser)
    _folds(parser)
    parser.add_argument("--methods", metavar="NAME,NAME", type=_names, help="only these; random always takes part")
    parser.display_options()
    parser.overrides()


def _folds(parser: Parser) -> None:
    purpose = "rounds that a backtest plays, each with S_val divided anew; default: %(default)s"
    parser.add_argument("--folds", metavar="N", type=int, default=FOLDS, help=purpose)


def _sweep(parser: Parser) -> None:
    parser.description = "Try settings of u_hat and of the acquisition, without labels of the pool, and name the best."
    parser.epilog = "The same command again continues an interrupted sweep. Keys of a configuration: rambo run --keys"
    parser.config_option("YAML configuration that the sweep varies")
    parser.space_option("YAML space")
    parser.output_option("output directory of the sweep")
    parser.samples_option("DIR/utility_samples")
    oracle = "research only: judge by the benchmark's labels of the pool"
    parser.add_argument("--oracle", action="store_true", help=oracle)
    parser.display_options()
    parser.overrides()


def _benchmark(parser: Parser) -> None:
    parser.description = "Compare RAMBO with other strategies and with its own controls, run by run."
    parser.epilog = (
        "Finished runs are kept in DIR/cells.jsonl and shared by all experiments; the same command computes "
        "what is missing."
    )
    parser.add_argument("--experiment", metavar="NAME", help="of those that --list names, or the path of a YAML file")
    parser.output_option("output directory, for any number of experiments", required=False)
    parser.add_argument("--seeds", metavar="N", type=int, help="only the first N seeds of the experiment")
    parser.add_argument("--budgets", metavar="B,B", type=_numbers, help="only these budgets of the experiment")
    parser.samples_option("DIR/work/utility_samples")
    parser.add_argument("--report", action="store_true", help="compute nothing: report what is finished")
    parser.add_argument("--list", action="store_true", help="list the experiments and exit")
    parser.display_options()
    parser.overrides("override a key in all panels")


def _export(parser: Parser) -> None:
    parser.description = "Give a finished run's picked images to an annotation tool, in the order picked."
    parser.epilog = "Without --images and --url-prefix the images are copied beside the tasks."
    parser.add_argument("run", metavar="DIR", help="the run's output directory")
    parser.add_argument("--to", required=True, choices=EXPORTED, help="the tool, or the form")
    parser.add_argument("--output", metavar="FILE_OR_DIR", required=True, help="what to write; must be new")
    parser.add_argument("--images", metavar="FOLDER", help="where the pool's files are, as the tool sees them")
    parser.add_argument(
        "--url-prefix", metavar="URL", help="what stands before an id in an image's address: https://example.org/pool/"
    )
    parser.display_options()


def _label(parser: Parser) -> None:
    parser.description = "Label the images that a run picked, on a page that this machine alone can open."
    parser.epilog = (
        "Answers are appended to DIR/labels.jsonl, each before the next image shows; the same command goes on where "
        "it ended. rambo labels DIR uses them."
    )
    parser.add_argument("folder", metavar="DIR", help="output directory of a finished run")
    shared = "split: each image goes to one annotator (default); all: every annotator sees every image"
    parser.add_argument("--share", choices=("split", "all"), default="split", help=shared)
    parser.add_argument("--annotator", metavar="NAME", help="the name that the page suggests; default: this user's")
    parser.add_argument(
        "--port", type=_port, metavar="N", help="default: the last one used, or the first free from 8765"
    )
    elsewhere = "default: 127.0.0.1, this machine alone; others can open 0.0.0.0, unencrypted, if they have the address"
    parser.add_argument("--host", metavar="HOST", default="127.0.0.1", help=elsewhere)
    parser.add_argument("--no-browser", action="store_true", help="print the address, open no browser")
    ids = "ids under the images; auto: unless one of them holds a class's name, which would bias who answers (default)"
    parser.add_argument("--ids", choices=("auto", "show", "hide"), default="auto", help=ids)
    parser.display_options()


def _completion(parser: Parser) -> None:
    parser.description = "Print the script by which a shell completes commands, options, ready names and keys."
    parser.epilog = (
        "To have it in every new shell:\n"
        "  bash: echo 'eval \"$(rambo completion bash)\"' >> ~/.bashrc\n"
        "  zsh:  rambo completion zsh > DIR/_rambo, with DIR in $fpath\n"
        "  fish: rambo completion fish > ~/.config/fish/completions/rambo.fish"
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"))


def _labels(parser: Parser) -> None:
    parser.description = (
        "Take in what the annotators returned: one answer per image, the labelled set with them, and f trained on it."
    )
    parser.epilog = "Partial answers add up: give what else comes back to the same command."
    parser.add_argument("run", metavar="DIR", help="the run's output directory")
    parser.add_argument("files", metavar="FILE", nargs="*", help="what came back; default: DIR/labels.jsonl")
    parser.add_argument("--format", choices=RETURNED, help="what FILE must be; default: whatever it is")
    parser.add_argument("--field", metavar="NAME", help="the question or column that is the class, where several could")
    parser.add_argument(
        "--rename", metavar="NAME=CLASS", action="append", help="what a class is called in FILE; repeats"
    )
    parser.add_argument("--resolve", metavar="WHO", help="who wins a tie of annotators: first, last, or one of them")
    parser.add_argument("--skip-unknown", action="store_true", help="pass over images that were not asked for")
    parser.add_argument("--replace", action="store_true", help="take these answers where earlier ones say otherwise")
    parser.add_argument("--output", metavar="DIR", help="the labelled set; default: labeled_round_N in the run's DIR")
    parser.add_argument("--no-train", action="store_true", help="only take the answers in")
    parser.display_options()


# A dictionary by name, in the order of `rambo --help`.
COMMANDS = {
    command.name: command
    for command in (
        Command("run", "Pick the pool images to send to the annotators.", _run, "rambo_ray.cli.run"),
        Command(
            "inspect",
            "Say what a run would read, and what is wrong with it.",
            _inspect,
            "rambo_ray.cli.inspect",
            on_ray=False,
        ),
        Command(
            "export", "Give the picked images to the annotators' tool.", _export, "rambo_ray.cli.export", on_ray=False
        ),
        Command(
            "label", "Label what a run picked, on a page on this machine.", _label, "rambo_ray.cli.label", on_ray=False
        ),
        Command("labels", "Take the annotators' answers in, say what they are worth.", _labels, "rambo_ray.cli.labels"),
        Command("plan", "Say what a run and a backtest would cost.", _plan, "rambo_ray.cli.plan"),
        Command(
            "backtest",
            "Will it beat random on your images? Before any label is bought.",
            _backtest,
            "rambo_ray.cli.backtest",
        ),
        Command("collect", "Collect a run's utility samples and nothing else.", _collect, "rambo_ray.cli.collect"),
        Command("sweep", "Try settings without labels of the pool, name the best.", _sweep, "rambo_ray.cli.sweep"),
        Command("benchmark", "Compare RAMBO with other strategies.", _benchmark, "rambo_ray.cli.benchmark"),
        Command(
            "completion", "Print a shell's completion script.", _completion, "rambo_ray.cli.completion", on_ray=False
        ),
    )
}


class _Keys(argparse.Action):
    """Lists the keys of the configuration and exits, as --help does."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from rambo_ray.config import loading  # only here: pydantic would double the time of --help

        for name, default, meaning in loading.all_keys():
            print(f"{name}={'null' if default is None else default}\n    {meaning}")
        sys.stdout.flush()  # a reader that has gone is noticed here, see `exit_code`, and not at Python's end
        parser.exit()


def _numbers(text: str) -> list[int]:
    """Whole numbers between commas; argparse makes an error of a ValueError."""
    return [int(part) for part in text.split(",")]


def _port(text: str) -> int:
    """A port; argparse makes an error of a ValueError."""
    number = int(text)
    if not 0 <= number < 65536:
        raise ValueError
    return number


def _names(text: str) -> list[str]:
    """Names between commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


_numbers.__name__ = "budgets such as 500,1000 as a"  # argparse says: invalid ... value: 'x'
_port.__name__ = "port of 0 to 65535 as a"
