#!/usr/bin/env bash
# What a machine with a GPU runs, in steps that are called one by one. Builds nothing and fetches nothing: a `cuda` build was carried
# there, and PyTorch is there for the peers.
#
#     benches/gpu.sh STEP...        each step ends within nine minutes, and adds its part to $OUT/report.md
#
#     parity    vqlc selftest: every operation against the CPU, and reference tensors
#     peers     the same work in PyTorch: train, encode, decode, nearest, K-means
#     network   encode and decode, pictures/s, in f32 and bf16, by the order of channels; whole compress and decompress
#     ids       the share of ids that differ between the CPU, the GPU and the GPU in bf16, on held-out pictures
#     kernels   nearest entry, assignment of K-means
#     train     training at the peers' sizes, pictures/s and ms a step, with codebooks of 1,000 to 200,000 entries
#     gpt       the paper's GPT over 100,000 codes beside PyTorch's: tokens/s, share of the GPU's peak, memory
#     model     the default model: goes on from the checkpoint, and leaves the next one in pieces
#
# Where things are (defaults beside this script, `here`):
#     VQLC        here/vqlc             the program
#     REFERENCE   here/reference        reference tensors (parity; left out if not there)
#     PEERS       here/bench            peers_gpu.py and what it imports
#     IMAGES      here/photos/train     the pictures to train on
#     EVAL        here/photos/eval      those held out
#     PEER_GPT    here/peer_gpt.py      the peer of step gpt
#     CONFIG      here/default.toml     the default model's training, without paths (none: the preset small in bf16)
#     CODEBOOK    here/codebook.safetensors, WEIGHTS here/efficientnet_lite0.safetensors: what it is trained with
#     CHECKPOINT  here/checkpoint       pieces that an earlier `model` step left (none: training starts anew)
#     RUN         here/run              where the default model's training writes
#     OUT         gpu-results           what is to be taken home: the report, and pieces of at most 15 MiB, 60 MiB in all
#
# Ends with code 1 if a step failed. The loader finds the CUDA libraries, and NVRTC its built-in headers, through LD_LIBRARY_PATH;
# those of PyTorch's wheels are added if there.
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
vqlc=${VQLC:-$here/vqlc}
reference=${REFERENCE:-$here/reference}
peers=${PEERS:-$here/bench}
images=${IMAGES:-$here/photos/train}
eval=${EVAL:-$here/photos/eval}
peer_gpt=${PEER_GPT:-$here/peer_gpt.py}
config=${CONFIG:-$here/default.toml}
codebook=${CODEBOOK:-$here/codebook.safetensors}
weights=${WEIGHTS:-$here/efficientnet_lite0.safetensors}
checkpoint=${CHECKPOINT:-$here/checkpoint}
run=${RUN:-$here/run}
out=${OUT:-gpu-results}
# A step's limit in seconds, of which `model` keeps some to write and cut its checkpoint.
limit=540
packing=60
failed=0

mkdir -p "$out"
out=$(cd "$out" && pwd)
report=$out/report.md
for libraries in $(python3 -c 'import site; print(*site.getsitepackages())' 2> /dev/null); do
  for folder in "$libraries"/nvidia/*/lib; do
    if [[ -d $folder ]]; then export LD_LIBRARY_PATH=$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}; fi
  done
done

# Each argument is a line of the report.
say() { printf '%s\n' "$@" | tee -a "$report"; }

# Runs a command for what is left of the step's limit; its output goes into the report as it comes.
deadline=0
measure() {
  local left=$((deadline - SECONDS)) code
  say "" "\$ $*" '```'
  if ((left <= 0)); then
    say "not run: no time left in this step" '```'
    failed=1
    return 1
  fi
  timeout --signal=INT --kill-after=20 "$left" "$@" 2>&1 | tee -a "$report"
  code=${PIPESTATUS[0]}
  say '```'
  if ((code != 0)); then
    say "FAILED with code $code"
    failed=1
  fi
  return "$code"
}

parity() {
  if [[ -d $reference ]]; then
    measure "$vqlc" selftest --device cuda --reference "$reference"
    # The networks of the reference are f32, whose channels come first unless it is said.
    measure env VQLC_CHANNELS=last "$vqlc" selftest --device cuda --reference "$reference"
  else
    say "no reference tensors in $reference"
    measure "$vqlc" selftest --device cuda
  fi
}

peers() {
  cd "$peers" || return 1
  # One by one, so that what runs out of memory or time takes nothing else with it.
  for what in train encode,decode nearest kmeans; do
    PYTHONUNBUFFERED=1 measure python3 peers_gpu.py --only "$what"
  done
  PYTHONUNBUFFERED=1 measure python3 peers_gpu.py --only train --compile
  PYTHONUNBUFFERED=1 measure python3 peers_gpu.py --only encode,decode --compile
  cd - > /dev/null || return 1
}

network() {
  local precision
  for precision in f32 bf16; do
    measure "$vqlc" bench --device cuda --precision "$precision" --only encode,decode --batch 64
    # The paper's width, as the peers run it.
    measure "$vqlc" bench --device cuda --precision "$precision" --only encode,decode --ch 128 --batch 64
    measure "$vqlc" bench --device cuda --precision "$precision" --only encode,decode --ch 128 --batch 1
  done
  # What the order of channels gives.
  measure env VQLC_CHANNELS=first "$vqlc" bench --device cuda --precision bf16 --only encode,decode --ch 128 --batch 64
  # Whole runs: reading, resizing and writing beside the network.
  local folder
  folder=$(mktemp -d)
  measure "$vqlc" compress --device cuda --precision bf16 --batch 64 --quiet --json "$images" "$folder/images.vqt"
  measure "$vqlc" decompress --device cuda --precision bf16 --batch 64 --quiet --json "$folder/images.vqt" "$folder/images"
  rm -rf "$folder"
}

ids() {
  local way ways=(cpu-f32 cuda-f32 cuda-bf16) folder
  folder=$(mktemp -d)
  for way in "${ways[@]}"; do
    measure "$vqlc" compress --device "${way%-*}" --precision "${way#*-}" --quiet "$eval" "$folder/$way.vqt" || return 1
    measure "$vqlc" export "$folder/$way.vqt" "$folder/$way.npy" || return 1
  done
  measure python3 -c '
import sys, numpy
ids = {name: numpy.load(f"{sys.argv[1]}/{name}.npy") for name in sys.argv[2:]}
first = ids[sys.argv[2]]
for name in sys.argv[3:]:
    differ = int((ids[name] != first).sum())
    print(f"{name}: {differ} of {first.size} ids are not those of {sys.argv[2]} ({100 * differ / first.size:.3f} %)")
' "$folder" "${ways[@]}"
  rm -rf "$folder"
}

kernels() {
  measure "$vqlc" bench --device cuda --only nearest
  measure "$vqlc" bench --device cuda --only assign
}

train() {
  for codes in 100000 1000 16384 200000; do
    measure "$vqlc" bench --device cuda --precision bf16 --only train --ch 128 --batch 64 --codes "$codes" --seconds 20
  done
  # What the order of channels gives.
  measure env VQLC_CHANNELS=first "$vqlc" bench --device cuda --precision bf16 --only train --ch 128 --batch 64 --seconds 20
}

gpt() {
  local folder batch=64 rate watch
  folder=$(mktemp -d)
  measure "$vqlc" compress --device cuda --precision bf16 --batch 64 --quiet "$images" "$folder/tokens.vqt" || return 1
  PYTHONUNBUFFERED=1 measure python3 "$peer_gpt" --batch "$batch"
  PYTHONUNBUFFERED=1 measure python3 "$peer_gpt" --batch "$batch" --compile
  # The most memory that is in use at any second.
  nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits --loop=1 > "$folder/memory" &
  watch=$!
  measure "$vqlc" train gpt --preset paper "$folder/tokens.vqt" --out "$folder/run" --device cuda --set run.steps=24 \
    --set run.batch="$batch" --set run.accumulate=1 --set run.ema=0.0 --set optimizer.warmup=10 --set optimizer.hold=10 \
    --set watch.log_every=8 --set watch.val_every=0 --set watch.grid_every=0
  kill "$watch"
  cp "$folder/run/metrics.jsonl" "$out/gpt-metrics.jsonl"
  rate=$(tail -n 1 "$out/gpt-metrics.jsonl" | sed 's/.*"images_per_s":\([0-9.]*\).*/\1/')
  measure python3 "$peer_gpt" --rate "$rate"
  say "at most $(sort -n "$folder/memory" | tail -n 1) MiB in use, batch $batch"
  rm -rf "$folder"
}

model() {
  local pieces=("$checkpoint"/checkpoint.tar.*) resume=() newest code
  rm -f "$out"/checkpoint.tar.*
  mkdir -p "$run"
  if [[ -e ${pieces[0]} && ! -d $run/checkpoints ]]; then
    say "going on from ${#pieces[@]} pieces in $checkpoint"
    if ! cat "${pieces[@]}" | tar -x -C "$run"; then
      say "FAILED: the pieces are no archive"
      failed=1
      return 1
    fi
  fi
  if [[ -d $run/checkpoints ]]; then resume=(--resume); fi
  if [[ ! -e $config ]]; then
    "$vqlc" train tokenizer --print-config small | sed 's/^precision = .*/precision = "bf16"/' > "$config"
  fi
  deadline=$((deadline - packing))
  # Being out of time is how this step usually ends: the program is interrupted, writes a checkpoint and stops.
  timeout --signal=INT --kill-after=40 $((deadline - SECONDS)) "$vqlc" train tokenizer --config "$config" --images "$images" \
    --codebook "$codebook" --perceptual-weights "$weights" --out "$run" --device cuda "${resume[@]}" > "$out/training.txt" 2>&1
  code=$?
  say "training ended with code $code (124: out of time); the end of training.txt:" '```'
  tail -n 40 "$out/training.txt" | tee -a "$report"
  say '```'
  case $code in 0 | 3 | 124 | 130) ;; *) failed=1 ;; esac
  newest=$(ls -t "$run/checkpoints" 2> /dev/null | grep '\.safetensors$' | head -n 1)
  if [[ -z $newest ]]; then
    say "FAILED: no checkpoint in $run/checkpoints"
    failed=1
    return 1
  fi
  tar -c -C "$run" config.toml metrics.jsonl "checkpoints/$newest" | split -b 15M - "$out/checkpoint.tar." || failed=1
  pieces=("$out"/checkpoint.tar.*)
  say "checkpoint $newest: ${#pieces[@]} pieces, $(du -ch "${pieces[@]}" | tail -n 1 | cut -f 1)"
  if ((${#pieces[@]} > 4)); then
    say "FAILED: more than 60 MiB cannot be taken home"
    failed=1
  fi
}

steps=(parity peers network ids kernels train gpt model)
if (($# == 0)); then
  sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
  exit 1
fi
for step in "$@"; do
  if [[ " ${steps[*]} " != *" $step "* ]]; then
    echo "unknown step $step: expected one of ${steps[*]}" >&2
    exit 1
  fi
done
for step in "$@"; do
  deadline=$((SECONDS + limit))
  say "## $step, $(date -u +'%F %T') UTC"
  say "$("$vqlc" --version 2>&1); $(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>&1)"
  "$step"
  say ""
done
if ((failed)); then echo "something failed; see $report"; else echo "all ran; see $report"; fi
exit "$failed"
