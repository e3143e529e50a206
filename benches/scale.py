#!/usr/bin/env python3
"""How the cost of vqlc grows: with pictures, codebook, picture size and threads, and with a folder of 100,000 small files.

    python3 benches/scale.py --vqlc target/release/vqlc --images FOLDER --work EMPTY-FOLDER [--only pictures,codes,sides,threads,files]

Prints tables in Markdown. About a quarter of an hour; anything else that runs meanwhile spoils it. Pictures are repeated by hard links.
"""
import argparse, datetime, itertools, json, os, pathlib, platform, shutil, subprocess, time, zlib

ap = argparse.ArgumentParser()
ap.add_argument("--vqlc", default="target/release/vqlc")
ap.add_argument("--images", required=True, type=pathlib.Path)
ap.add_argument("--work", required=True, type=pathlib.Path)
ap.add_argument("--only", default="pictures,codes,sides,threads,files")
a = ap.parse_args()
a.work.mkdir(exist_ok=True)


def run(*arguments):
    """Seconds, peak MB and output of vqlc."""
    start = time.perf_counter()
    process = subprocess.Popen([a.vqlc, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"vqlc {' '.join(map(str, arguments))} ended with status {status}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024, out


def bench(*arguments):
    results = json.loads(run("bench", "--json", *arguments)[2])["results"]
    return {result["what"]: result for result in results}


def compress(folder, *arguments):
    seconds, megabytes, _ = run("compress", "--quiet", "--force", *arguments, folder, a.work / "out.vqt")
    return seconds, megabytes


def table(title, heads, rows):
    print(f"\n{title}\n\n| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def repeated(name, count):
    """A folder of `count` links to the pictures."""
    folder = a.work / name
    shutil.rmtree(folder, ignore_errors=True)
    originals = sorted(p for p in a.images.rglob("*") if p.is_file() and p.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))
    for i, original in zip(range(count), itertools.cycle(originals)):
        link = folder / f"{i // 1000:03}" / f"{i:06}{original.suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        if i == 0 or a.images.stat().st_dev == link.parent.stat().st_dev:
            try:
                os.link(original, link)
                continue
            except OSError:
                pass
        shutil.copyfile(original, link)
    return folder


def small_png(path, side, value):
    """A grey picture, a little different each time."""
    def chunk(kind, data):
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    rows = b"".join(b"\0" + bytes((value + x * y) % 256 for x in range(side)) for y in range(side))
    head = side.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def pictures():
    rows = []
    for count in (1, 100, 1000, 10_000):
        folder = repeated("pictures", count)
        # In turn, and the best of each: the machine's own speed changes within minutes.
        runs, network = [], []
        for _ in range(1 if count > 1000 else 4):
            network.append(bench("--only", "encode", "--batch", 8, "--seconds", 5)["encode"]["median"])
            runs.append(compress(folder))
        network.append(bench("--only", "encode", "--batch", 8, "--seconds", 5)["encode"]["median"])
        seconds, megabytes = min(runs)[0], max(run[1] for run in runs)
        alone = count / max(network)
        rows.append([f"{count:,}", f"{seconds:.2f} s", f"{1e3 * seconds / count:.1f} ms", f"{alone:.2f} s", f"{seconds / alone:.2f}", f"{megabytes:.0f} MB"])
        shutil.rmtree(folder)
    table("Pictures, embedded model", ["pictures", "compress", "a picture", "the network alone", "ratio", "peak memory"], rows)


def codes():
    rows = []
    for n in (1_000, 10_000, 100_000, 200_000):
        found = bench("--only", "nearest", "--codes", n, "--seconds", 3)["nearest"]
        rows.append([f"{n:,}", f"{found['best'] / 1e6:.2f} M/s", f"{256e6 / found['best']:.0f} us", found["detail"].split("in ")[-1]])
    table("Codebook entries, of 8 numbers", ["entries", "queries", "256 tokens", "index built in"], rows)


def sides():
    rows = []
    for side in (256, 512, 1024, 2048):
        found = bench("--only", "encode,decode", "--size", side, "--batch", 1, "--seconds", 6)
        times = [1 / found[what]["best"] for what in ("encode", "decode")]
        pixels = side * side / 2**20
        memory = run("bench", "--json", "--only", "encode,decode", "--size", side, "--batch", 1, "--seconds", 0)[1]
        rows.append([f"{side} x {side}", *(f"{1e3 * t:.0f} ms, {1e3 * t / pixels:.0f}" for t in times), f"{memory:.0f} MB, {memory / pixels:.0f}"])
    table("One picture, embedded model; behind the comma for each 2^20 pixels", ["pixels", "encode", "decode", "peak memory"], rows)


def threads():
    rows = []
    for batch in (1, 8):
        one, two = (bench("--only", "encode,decode", "--batch", batch, "--threads", n, "--seconds", 6) for n in (1, 2))
        for what in ("encode", "decode"):
            speeds = [found[what]["best"] for found in (one, two)]
            rows.append([what, str(batch), *(f"{1e3 / s:.1f} ms" for s in speeds), f"{speeds[1] / speeds[0]:.2f}"])
    table("Threads, embedded model, a picture", ["what", "batch", "one thread", "two", "ratio"], rows)


def files():
    full, least = (bench("--only", "encode", "--batch", 8, "--seconds", 10, "--size", side)["encode"]["median"] for side in (256, 16))
    rows = []
    for count in (1_000, 10_000, 100_000):
        folder = a.work / "files"
        shutil.rmtree(folder, ignore_errors=True)
        for i in range(count):
            path = folder / f"{i // 1000:03}" / f"{i:06}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            small_png(path, 16, i)
        walk, _, _ = run("compress", "--dry-run", "--quiet", folder, a.work / "none.vqt")
        seconds, megabytes = compress(folder, "--size", 16)
        rest = seconds - count / least
        rows.append([f"{count:,}", f"{walk:.2f} s", f"{seconds:.1f} s", f"{count / least:.1f} s", f"{100 * rest * full / count:.1f} %", f"{megabytes:.0f} MB"])
        shutil.rmtree(folder)
    heads = ["files", "walk (--dry-run)", "compress --size 16", "the network alone", "the rest, of what the network takes at 256 x 256", "peak memory"]
    table("Small files, embedded model: all of compress, with a network that sees one token a picture", heads, rows)


cpu = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.processor())
print(f"{datetime.date.today()}, {run('--version')[2].decode().strip()}, {cpu}, {os.cpu_count()} cores")
for what in a.only.split(","):
    {"pictures": pictures, "codes": codes, "sides": sides, "threads": threads, "files": files}[what]()
