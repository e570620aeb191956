"""A sweep: python jobs/sweep.py --config FILE --space tune_configs/lambda_ot.yaml --output DIR [section.key=value]"""

import sys

from rambo_ray.cli.main import job

if __name__ == "__main__":
    sys.exit(job("sweep"))
