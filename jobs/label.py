"""A page on this machine to label what a run picked: python jobs/label.py DIR"""

import sys

from rambo_ray.cli.main import job

if __name__ == "__main__":
    sys.exit(job("label"))
