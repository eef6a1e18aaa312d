#!/bin/sh
# Several candidates: make four, best first, with a sheet of them all in candidates-preview.png.
set -e
python "$(dirname "$0")/photos.py"
inlay edit rocket.png --box 290,115,355,400 --mask-grow 6 -p "a cactus in the desert" -n 4 --steps 25 \
    -o candidates.png --preview --overwrite "$@"
