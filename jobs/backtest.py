"""A backtest: python jobs/backtest.py --config FILE --output DIR [--folds N] [section.key=value ...]"""

import sys

from rambo_ray.cli.main import job

if __name__ == "__main__":
    sys.exit(job("backtest"))
