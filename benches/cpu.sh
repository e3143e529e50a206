#!/usr/bin/env bash
# vqlc beside PyTorch, ONNX Runtime, SciPy and faiss on this processor, one after the other and vqlc again, as a table of ratios.
# Quote the ratios only: a machine that does something else meanwhile spoils both sides.
#
#     benches/cpu.sh                writes $OUT/cpu.md and what it was made of
#
#     VQLC      target/release/vqlc
#     PEERS     required: a folder with peers_cpu.py, which takes --ch, --threads and --batch and prints a JSON object a line:
#               what (encode, decode, nearest...), peer, ch and ms, or per_s. What it said otherwise is in $OUT/peers.log
#     PYTHON    python3, with torch, onnx, onnxruntime, numpy, scipy and faiss
#     CHANNELS  "32 128", widths of the network     BATCHES   "1 8", pictures a call
#     THREADS   2                                   OUT       cpu-results
set -euo pipefail

vqlc=${VQLC:-target/release/vqlc}
peers=${PEERS:?names the folder of peers_cpu.py}
python=${PYTHON:-python3}
channels=${CHANNELS:-32 128}
batches=${BATCHES:-1 8}
threads=${THREADS:-2}
out=${OUT:-cpu-results}
mkdir -p "$out"
rm -f "$out"/network-*.json "$out"/peers-*.jsonl "$out"/nearest.json

ours() { # batch, which time
  for ch in $channels; do
    "$vqlc" bench --only encode,decode --ch "$ch" --batch "$1" --threads "$threads" --seconds 8 --json > "$out/network-$ch-$1-$2.json"
  done
}
for batch in $batches; do
  ours "$batch" 1
  # shellcheck disable=SC2086  # an option for each width
  "$python" "$peers/peers_cpu.py" $(printf -- '--ch %s ' $channels) --threads "$threads" --batch "$batch" > "$out/peers-$batch.jsonl" 2>> "$out/peers.log"
  ours "$batch" 2
done
"$vqlc" bench --only nearest --threads "$threads" --seconds 8 --json > "$out/nearest.json"

"$python" - "$out" "$threads" "$("$vqlc" --version)" > "$out/cpu.md" << 'EOF'
import datetime, json, pathlib, sys, time
import torch

out, threads, version = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]


def products(ch, decode):
    """Multiply-adds of the paper's f16 network at 256 x 256: of 3x3 convolutions with stride 1 and several inputs, and of the rest."""
    mult, side, convs, rest = [1, 1, 2, 2, 4], 256, 0, 0
    conv = lambda a, b, n: 9 * a * b * n * n
    attention = lambda c, n: 4 * c * c * n * n + 2 * c * n**4
    block = lambda a, b, n: (conv(a, b, n) + conv(b, b, n), a * b * n * n if a != b else 0)
    levels = list(enumerate(mult))
    width, blocks = ch, 2
    if decode:
        levels, width, blocks, side = levels[::-1], 4 * ch, 3, 16
        convs += conv(256, width, side) + 2 * sum(block(width, width, side))
        rest += 8 * 256 * side * side + attention(width, side)
    else:
        rest += conv(3, ch, side)
    for level, m in levels:
        for _ in range(blocks):
            a, b = block(width, ch * m, side)
            convs, rest, width = convs + a, rest + b, ch * m
            rest += attention(width, side) if level == 4 else 0
        if decode and level != 0:
            side *= 2
            convs += conv(width, width, side)
        if not decode and level != 4:
            side //= 2
            rest += conv(width, width, side)
    if decode:
        return convs, rest + conv(width, 3, side)
    convs += 2 * sum(block(width, width, side)) + conv(width, 256, side)
    return convs, rest + attention(width, side) + 8 * 256 * side * side


torch.set_num_threads(threads)
a = torch.randn(2048, 2048)
peak = 0
for _ in range(12):
    start = time.perf_counter()
    a @ a
    peak = max(peak, 2048**3 / (time.perf_counter() - start))
cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), "?")
print(f"{datetime.date.today()}, {version}, {cpu}, {threads} threads; ms a picture of 256 x 256, best of all runs, f32, the paper's f16 network with random weights.")
print(f"A large product in PyTorch runs at {peak / 1e9:.0f} G multiply-adds a second: the floors are the network's multiply-adds at that speed,")
print("directly, and with the 3x3 convolutions of stride 1 at a quarter.")
print()
print("| what | ch, batch | vqlc | PyTorch channels_last | ONNX Runtime | vqlc against the faster | floor, direct | floor, Winograd |")
print("|---|---|---|---|---|---|---|---|")
nearest = []
for path in sorted(out.glob("peers-*.jsonl")):
    batch = int(path.stem.split("-")[1])
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    nearest += [line for line in lines if "per_s" in line]
    for ch in sorted({line["ch"] for line in lines if "ch" in line}):
        for what in ("encode", "decode"):
            ms = {line["peer"]: line["ms"] for line in lines if line.get("ch") == ch and line["what"] == what}
            runs = [json.loads((out / f"network-{ch}-{batch}-{n}.json").read_text()) for n in (1, 2)]
            mine = min(1e3 / r["best"] for run in runs for r in run["results"] if r["what"] == what)
            torch_ms, ort = ms["pytorch channels_last"], ms["onnxruntime"]
            convs, rest = products(ch, what == "decode")
            print(
                f"| {what} | {ch}, {batch} | {mine:.0f} | {torch_ms:.0f} | {ort:.0f} | {min(torch_ms, ort) / mine:.2f} "
                f"| {1e3 * (convs + rest) / peak:.0f} | {1e3 * (convs / 4 + rest) / peak:.0f} |"
            )
print()
mine = json.loads((out / "nearest.json").read_text())["results"][0]["best"]
best = {}
for line in nearest:
    best[line["peer"]] = max(best.get(line["peer"], 0), line["per_s"])
print(f"Exact nearest of 100,000 x 8: vqlc {mine:,.0f} queries/s; " + "; ".join(f"{peer} {n:,.0f} ({mine / n:.1f} times)" for peer, n in best.items()) + ".")
print("The peers search a table whose columns fall from 1 to 0.3 in scale; vqlc's has all at 1, which is harder for a tree.")
EOF
cat "$out/cpu.md"
