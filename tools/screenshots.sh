#!/usr/bin/env bash
# Pictures of a page that `vqlc report` wrote, as people see it: on a wide screen and a telephone, light and dark, and printed.
#
#   tools/screenshots.sh report.html shots/
#
# Needs Chromium (Debian: apt-get install chromium); CHROMIUM names another one. What the page's script complains of goes to
# shots/console.txt and makes this fail.
set -euo pipefail

if (($# != 2)); then
  echo "usage: $0 REPORT.html FOLDER" >&2
  exit 1
fi
page=$(realpath "$1")
mkdir -p "$2"
shots=$(realpath "$2")
chromium=${CHROMIUM:-chromium}
command -v "$chromium" > /dev/null || {
  echo "$chromium is not installed (Debian: apt-get install chromium; or CHROMIUM=/path/to/it)" >&2
  exit 1
}
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT

browse() {
  # No sandbox: inside a container there often is none to be had, and the page is our own.
  timeout 120 "$chromium" --headless --no-sandbox --disable-gpu --hide-scrollbars --user-data-dir="$profile" \
    --enable-logging=stderr "$@" 2>> "$profile/log"
}

# A window is not made narrower than 500 pixels, so the page lies in a frame; and it tells that how high it is.
cp "$page" "$profile/page.html"
cat >> "$profile/page.html" << 'END'
<script>addEventListener("load", () => parent.postMessage(document.documentElement.scrollHeight, "*"))</script>
END

shoot() {
  local name=$1 width=$2 height
  shift 2
  cat > "$profile/frame.html" << END
<!doctype html><style>body{margin:0}iframe{display:block;border:0;width:${width}px;height:100px}</style>
<script>
  addEventListener("message", (event) => {
    document.querySelector("iframe").style.height = event.data + "px";
    document.documentElement.dataset.height = event.data;
  });
</script>
<iframe src="page.html"></iframe>
END
  local url="file://$profile/frame.html"
  height=$(browse "$@" --window-size="$width,800" --virtual-time-budget=5000 --dump-dom "$url" |
    sed -n 's/.*data-height="\([0-9]*\)".*/\1/p' | head -n 1)
  browse "$@" --window-size="$width,${height:?the page did not say how high it is}" --virtual-time-budget=5000 \
    --screenshot="$shots/$name.png" "$url"
  echo "$shots/$name.png: $width x $height"
}

for width in 1280 400; do
  shoot "light-$width" "$width"
  shoot "dark-$width" "$width" --blink-settings=preferredColorScheme=0
done
browse --no-pdf-header-footer --print-to-pdf="$shots/print.pdf" "file://$page"

grep CONSOLE "$profile/log" > "$shots/console.txt" || true
if [[ -s $shots/console.txt ]]; then
  cat "$shots/console.txt" >&2
  exit 1
fi
