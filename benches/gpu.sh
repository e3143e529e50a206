#!/usr/bin/env bash
# What a machine with a GPU runs: the self-test against the CPU and against reference tensors, and the speeds, of a `cuda` build that
# was carried there. Needs only what lies beside this script, or is named:
#
#     benches/gpu.sh [VQLC] [REFERENCE]      default: ./vqlc and ./reference beside this script
#
# Results go to stdout and, one file each, to the folder $OUT (default: gpu-results). Goes on after a failure, and ends with code 1
# if anything failed. The loader finds the CUDA libraries through LD_LIBRARY_PATH; those of PyTorch's wheels are added if there.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
vqlc=${1:-$here/vqlc}
reference=${2:-$here/reference}
out=${OUT:-gpu-results}
mkdir -p "$out"
failed=0

for libraries in $(python3 -c 'import site; print(*site.getsitepackages())' 2> /dev/null); do
  for folder in "$libraries"/nvidia/*/lib; do
    if [[ -d $folder ]]; then export LD_LIBRARY_PATH=$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}; fi
  done
done

run() {
  local name=$1
  shift
  printf '\n== %s: %s\n' "$name" "$*"
  if "$@" > "$out/$name.txt" 2> "$out/$name.err"; then :; else
    echo "FAILED with code $?"
    failed=1
  fi
  cat "$out/$name.txt" "$out/$name.err"
}

date -u +%F | tee "$out/date.txt"
run machine nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
run version "$vqlc" --version
if [[ -d $reference ]]; then
  run selftest "$vqlc" selftest --device cuda --reference "$reference"
else
  run selftest "$vqlc" selftest --device cuda
fi
run bench-embedded "$vqlc" bench --device cuda --only encode,decode --batch 64
# The paper's width; the peers of candle.md run the same network.
run bench-ch128 "$vqlc" bench --device cuda --only encode,decode --ch 128 --batch 64
run bench-ch128-one "$vqlc" bench --device cuda --only encode,decode --ch 128 --batch 1
run bench-cpu "$vqlc" bench --json

echo
if ((failed)); then echo "something failed; see $out"; else echo "all ran; results in $out"; fi
exit "$failed"
