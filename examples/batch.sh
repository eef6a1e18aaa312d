#!/bin/sh
# Batch: rows from a manifest into a folder. Run it again: what is done stays; report.html shows before and after.
set -e
python "$(dirname "$0")/photos.py"
cp "$(dirname "$0")/retouch.jsonl" "$(dirname "$0")/retouch.csv" .
inlay batch retouch.jsonl -o retouched --steps 25 --dry-run "$@"
inlay batch retouch.jsonl -o retouched --steps 25 "$@"
inlay batch retouch.csv -o from-table --steps 25 "$@"
