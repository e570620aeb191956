"""What a run would cost: python jobs/plan.py --config FILE [section.key=value ...]"""

import sys

from rambo_ray.cli.main import job

if __name__ == "__main__":
    sys.exit(job("plan"))
