#!/bin/sh
# Stands in for a program that fails.
echo "a first line" >&2
echo "cannot do it" >&2
exit 3
