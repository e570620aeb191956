"""The machine: device, driver, versions, memory, clocks, and the ceilings that other sections are held against."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess

import torch

from gpu.record import Section
from gpu.timing import MB, copy_gbytes, matmul_tflops

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "pyarrow",
    "pydantic",
    "scikit-learn",
    "safetensors",
    "pot",
    "ray",
)
ASKED = "name,driver_version,memory.total,clocks.sm,clocks.mem,clocks.max.sm,power.limit,temperature.gpu"


def measure(section: Section) -> None:
    """Versions and names, then the speed of large products per precision and of a large copy."""
    section.put("versions", {name: version(name) for name in PACKAGES} | {"python": platform.python_version()})
    section.put("cpu", {"name": processor(), "cores": os.cpu_count(), "memory_gb": memory_gb()})
    section.put("device", section.device)
    if section.device == "cuda":
        found = torch.cuda.get_device_properties(0)
        section.put(
            "gpu",
            {
                "name": found.name, "memory_mb": found.total_memory / MB,
                "multiprocessors": found.multi_processor_count,
                "capability": f"{found.major}.{found.minor}", "cuda": torch.version.cuda,
                "cudnn": torch.backends.cudnn.version(), "bfloat16": torch.cuda.is_bf16_supported(False),
                "free_mb": torch.cuda.mem_get_info()[0] / MB,
            },
        )  # fmt: skip
        section.put("nvidia_smi", nvidia_smi())
    size, copied = (256, 2**20) if section.smoke else (8192, 2**31)
    kinds = ("float32", "bfloat16") if section.device == "cpu" else ("float32", "tf32", "bfloat16", "float64")
    peaks: dict[str, float] = {}
    for kind in kinds:
        peaks[kind] = matmul_tflops(section.device, kind, size // 2 if kind == "float64" else size)
        section.put("peak_tflops", peaks)
    section.put("copy_gbytes", copy_gbytes(section.device, copied))
    if section.device == "cuda":
        section.put("nvidia_smi_after", nvidia_smi())


def version(name: str) -> str:
    """A package's version, or "absent"."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def nvidia_smi() -> dict[str, str]:
    """What nvidia-smi says of the first GPU, as it writes it; what went wrong, where it cannot be asked."""
    command = ["nvidia-smi", f"--query-gpu={ASKED}", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return {"error": str(error)[:200]}
    return dict(zip(ASKED.split(","), (value.strip() for value in answer.splitlines()[0].split(",")), strict=False))


def processor() -> str:
    """The CPU's name."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "unknown")
    except OSError:
        return platform.processor() or "unknown"


def memory_gb() -> float:
    """The machine's memory, GB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
