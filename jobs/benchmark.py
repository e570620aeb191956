"""A benchmark: python jobs/benchmark.py --experiment NAME --output DIR [section.key=value]; --list names them"""

import sys

from rambo_ray.cli.main import job

if __name__ == "__main__":
    sys.exit(job("benchmark"))
