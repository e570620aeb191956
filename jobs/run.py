"""The main job: python jobs/run.py --config jobs/configs/digits.yaml --output DIR [section.key=value ...]"""

import sys

from rambo_ray.cli.main import job

if __name__ == "__main__":
    sys.exit(job("run"))
