"""A run's request to its annotators: python jobs/export.py DIR --to TOOL --output FILE_OR_DIR"""

import sys

from rambo_ray.cli.main import job

if __name__ == "__main__":
    sys.exit(job("export"))
