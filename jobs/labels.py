"""The annotators' answers: python jobs/labels.py DIR [FILE ...] [options]"""

import sys

from rambo_ray.cli.main import job

if __name__ == "__main__":
    sys.exit(job("labels"))
