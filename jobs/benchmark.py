"""A benchmark: python jobs/benchmark.py --experiment NAME --output DIR [section.key=value]; --list names them"""

import sys
from pathlib import Path

from rambo_ray.cli.benchmark import main

if __name__ == "__main__":
    sys.exit(main(Path(__file__).resolve().parent))
