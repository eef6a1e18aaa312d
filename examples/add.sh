#!/bin/sh
# Add: give a place in a photo, say what to put there, and let guidance make it fill the place.
set -e
python "$(dirname "$0")/photos.py"
cat > place.json <<'LAYOUT'
{"prompt": "a ball on the floor", "size": [451, 300], "regions": [{"words": "ball", "points": [[60, 215]], "radius": 55}]}
LAYOUT
inlay edit chelsea.png --layout place.json --method masked-attention --steps 25 --seed 1 -o added.png --overwrite "$@"
