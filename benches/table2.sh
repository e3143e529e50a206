#!/usr/bin/env bash
# The paper's table 2 in small: the four quantizers at growing codebooks, on the same pictures, for the same steps, from the same seed.
# Hours on two cores. What is there already is not done again, so it can be stopped and started.
#
#     benches/table2.sh             writes $OUT/table2.md
#
#     VQLC      target/release/vqlc
#     IMAGES    the folder to learn from        EVAL      the folder to measure on
#     WEIGHTS   EfficientNet-Lite0's weights: source of the codebooks, and judge
#     OUT       table2-runs                     STEPS     1500
#     SIZES     "1024 16384 100000"             KINDS     "lc lc-plain vq fc ema"
#               (empty: only the table of what is there)
#     THREADS   all cores                       PRECISION f32, or bf16 on a processor with AMX
#     VIEWS     2, crops of each picture that the codebooks are made of
#     TOKENS    100, tokens an entry that used entries are counted over
set -euo pipefail

vqlc=${VQLC:-target/release/vqlc}
images=${IMAGES:?names the folder to learn from}
eval=${EVAL:?names the folder to measure on}
weights=${WEIGHTS:?names the weights of EfficientNet-Lite0}
out=${OUT:-table2-runs}
steps=${STEPS:-1500}
sizes=${SIZES-1024 16384 100000}
kinds=${KINDS:-lc lc-plain vq fc ema}
precision=${PRECISION:-f32}
views=${VIEWS:-2}
tokens=${TOKENS:-100}
threads=(${THREADS:+--threads "$THREADS"})
mkdir -p "$out"

# The tiny network on crops of 128 pixels at the scale that it is measured at. The first third of the steps makes an autoencoder, for
# all quantizers alike; lc's projector is then fitted to its latents, the other tables start at random; `lc-plain` is lc without that fit.
settings=(
  "run.steps=$steps" run.batch=4 run.accumulate=2 "run.precision=$precision"
  data.size=128 data.min_scale=2.0 data.max_scale=2.5 "warm_start.steps=$((steps / 3))" warm_start.latents=16384
  "optimizer.hold=$((steps / 2))" "watch.usage_tokens_per_code=$tokens" watch.grid_every=500 checkpoint.every=500
)

for n in $sizes; do
  codebook=$out/codebook-$n.safetensors
  if [[ $kinds == *lc* && ! -e $codebook ]]; then
    # Few centres are moved often; many seldom: the first times are most of what there is to gain, and minutes of work each.
    if ((n > 50000)); then iterations=1; elif ((n > 10000)); then iterations=3; else iterations=10; fi
    # --resume goes on where there is something to go on with. Code 3: made, without some pictures that could not be read.
    "$vqlc" codebook "$images" "$codebook" --backbone efficientnet-lite0 --weights "$weights" --codes "$n" --views "$views" \
      --iterations "$iterations" --resume "${threads[@]}" || { code=$?; ((code == 3)) || exit "$code"; }
  fi
  for kind in $kinds; do
    run=$out/$kind-$n
    if [[ -e $run.json ]]; then continue; fi
    if [[ -d $run/checkpoints ]]; then
      arguments=(--resume)
    else
      arguments=(--preset tiny --images "$images" --eval "$eval" --set "data.eval_weights=$weights")
      arguments+=(--set "quantizer.kind=${kind%-plain}" --set "model.n_codes=$n")
      for setting in "${settings[@]}"; do arguments+=(--set "$setting"); done
      if [[ $kind == lc* ]]; then arguments+=(--codebook "$codebook"); fi
      if [[ $kind == lc-plain ]]; then arguments+=(--set warm_start.align=false); fi
    fi
    "$vqlc" train tokenizer --out "$run" "${arguments[@]}" "${threads[@]}" --json > "$run.json.part" ||
      { code=$?; ((code == 3)) || exit "$code"; }
    mv "$run.json.part" "$run.json"
  done
done

python3 - "$out" "$steps" "$precision" "$tokens" "$("$vqlc" --version)" > "$out/table2.md" << 'EOF'
import datetime, json, pathlib, sys

out, steps, precision, tokens, version = pathlib.Path(sys.argv[1]), *sys.argv[2:6]
rows = []
for path in out.glob("*.json"):
    kind, n = path.stem.rsplit("-", 1)
    rows.append((["lc", "lc-plain", "vq", "fc", "ema"].index(kind), int(n), kind, json.loads(path.read_text())))
others = [
    f"{kind}-{n}"
    for _, n, kind, found in rows
    if found["steps"] != int(steps) or found["usage"]["crops"]["tokens"] < int(tokens) * n
]
if others:
    sys.exit(f"of another length than asked for now: {', '.join(others)}; set STEPS and TOKENS as they were, or remove them")
print(f"{datetime.date.today()}, {version}: preset tiny, {steps} steps of 8 crops of 128 pixels, {precision}, seed 0.")
print(f"Used entries and perplexity over {tokens} tokens an entry of seeded crops of the training pictures, and over one plain pass of them.")
print()
print("| quantizer | N | used, % | perplexity | plain pass: used, % | perplexity | PSNR, dB | SSIM | perceptual | FD-EffLite0 |")
print("|---|---|---|---|---|---|---|---|---|---|")
for _, n, kind, found in sorted(rows, key=lambda row: row[:2]):
    crops, plain, e = found["usage"]["crops"], found["usage"]["plain"], found["evaluation"]
    print(
        f"| {kind} | {n:,} | {100 * crops['utilisation']:.2f} | {crops['perplexity']:,.0f} | {100 * plain['utilisation']:.2f} "
        f"| {plain['perplexity']:,.0f} | {e['psnr']:.2f} | {e['ssim']:.4f} | {e['perceptual']:.4f} | {e['fd_efflite0']:.0f} |"
    )
EOF
cat "$out/table2.md"
