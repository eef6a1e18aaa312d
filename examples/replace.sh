#!/bin/sh
# Replace: point at a thing in a photo, and put another there.
set -e
python "$(dirname "$0")/photos.py"
inlay mask coffee.png --box 170,15,425,330 --point 290,120 -o cup.png --overlay cup-look.png --overwrite
inlay edit coffee.png --mask cup.png -p "a pumpkin on wood" --method zest+paint-with-words --words pumpkin --steps 25 -o replaced.png --overwrite "$@"
