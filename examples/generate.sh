#!/bin/sh
# Generate: a picture from nothing, with each thing where a layout says.
set -e
cat > layout.json <<'LAYOUT'
{"prompt": "a cat and a pumpkin on grass",
 "regions": [{"words": "cat", "box": [0.06, 0.31, 0.47, 0.86]},
             {"words": "pumpkin", "box": [0.55, 0.31, 0.94, 0.86]}]}
LAYOUT
inlay generate --layout layout.json --method zest+paint-with-words --steps 50 -o generated.png --overwrite "$@"
