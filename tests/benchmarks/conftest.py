"""The scripts of benchmarks/ are no package: they find one another in their own folder, and so must their tests."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
