#!/usr/bin/env bash
# Measures what the package does on a GPU, on a bare machine: CUDA, Python 3.10 or later, torch 2.4 or later.
#
#   bash benchmarks/on_gpu.sh OUT [--smoke] [--wheels DIR] [--images FILE] [--seconds N] [--only SECTION ...]
#
# Nothing is installed and nothing is fetched. Small packages that the machine lacks (pydantic with pydantic_core,
# annotated-types, typing-inspection, perhaps safetensors) come from the wheels in DIR, unpacked into a folder of
# this run; FILE is what benchmarks/pack_images.py wrote. PYTHON names another interpreter than python3. Everything
# else is passed on to benchmarks/on_gpu.py, whose text says what is written to OUT. Exit code 1: a section failed.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
wheels=
arguments=()
while [ $# -gt 0 ]; do
  case $1 in
    --wheels) wheels=${2:?--wheels needs a folder}; shift 2 ;;
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) arguments+=("$1"); shift ;;
  esac
done

unpacked=$(mktemp -d)
trap 'rm -rf "$unpacked"' EXIT
if [ -n "$wheels" ]; then
  for wheel in "$wheels"/*.whl; do
    [ -e "$wheel" ] || { echo "--wheels $wheels: no wheel there; name the folder with the *.whl files" >&2; exit 2; }
    "$python" -m zipfile -e "$wheel" "$unpacked"
  done
fi

# The machine's own packages come first, but for those that the wheels bring.
export PYTHONPATH=$unpacked${PYTHONPATH:+:$PYTHONPATH}
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# As a worker of a run has it; where more threads are wanted, the sections say so.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
status=0
"$python" "$here/on_gpu.py" "${arguments[@]}" || status=$?
exit "$status"
