"""Utility samples alone: python jobs/collect.py --config FILE --output DIR [section.key=value ...]"""

import sys

from rambo_ray.collect_main import main

if __name__ == "__main__":
    sys.exit(main())
