"""Utility samples alone: python jobs/collect.py --config FILE --output DIR [section.key=value ...]"""

import sys

from rambo_ray.cli.main import job

if __name__ == "__main__":
    sys.exit(job("collect"))
