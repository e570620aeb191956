"""Utility samples alone: python jobs/collect.py --config FILE --output DIR [section.key=value ...]"""

import sys

from rambo_ray.cli.collect import main

if __name__ == "__main__":
    sys.exit(main())
