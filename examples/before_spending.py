"""What a run would cost and whether it would beat a random choice, before a label is bought; two minutes on two cores.

python examples/before_spending.py
"""

from __future__ import annotations

from sklearn.datasets import load_digits

from rambo_ray import Backtested, Cost, Rambo

# Fewer retrainings and rounds than usual, so that it is over soon; leave them out for your own data.
QUICK = {"utility_samples.num_pairs": 8, "utility_samples.evidence_folds": 2, "classifier.max_epochs": 5}


def main(folds: int = 3) -> tuple[Cost, Backtested]:
    digits = load_digits()
    images, labels = digits.images / 16, digits.target
    data = (images[:100], labels[:100]), (images[100:300], labels[100:300]), images[300:700]

    rambo = Rambo(budget=40, overrides=QUICK)
    cost = rambo.plan(*data, folds=folds)
    print(cost)
    print(f"the run takes {cost.run_seconds:.0f} s, a backtest of {folds} rounds {cost.backtest_seconds:.0f} s")

    found = rambo.backtest(*data, folds=folds, methods=["rambo", "badge", "margin"])
    print(found.recommended, found.kind)
    for method, gain in found.gains.items():
        print(f"{method}: {100 * gain.mean:+.1f} points over random, {100 * gain.low:+.1f} to {100 * gain.high:+.1f}")

    # To pick the real items as recommended: Rambo(budget=40, overrides={**QUICK, **found.overrides}).select(*data)
    return cost, found


if __name__ == "__main__":
    main()
