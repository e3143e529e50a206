#!/bin/sh
# Stands in for cjpeg and djpeg: a picture at quality Q is a file of 100 + 10 Q bytes, and comes back as 16 x 16 pixels of the value Q.
case $1 in -version)
    echo "stand-in 1.0" >&2
    exit ;;
esac
while [ $# -gt 1 ]; do
    case $1 in
    -quality) quality=$2 && shift ;;
    -outfile) out=$2 && shift ;;
    esac
    shift
done
case $0 in
*/cjpeg)
    [ -f "$1" ] || exit 1
    { printf '%3d' "$quality" && head -c $((97 + 10 * quality)) /dev/zero; } >"$out"
    ;;
*/djpeg)
    quality=$(head -c 3 "$1" | tr -d ' ')
    { printf 'P6\n16 16\n255\n' && head -c 768 /dev/zero | tr '\0' "\\$(printf %03o "$quality")"; } >"$out"
    ;;
esac
