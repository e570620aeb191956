"""What a GPU makes of the package, measured in sections; `benchmarks/on_gpu.sh` is the way in."""
