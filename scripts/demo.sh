#!/usr/bin/env bash
# The main job on generated hands, with the stock commands: train and test, predict, export, and a scored picture from
# the exported bundle without torch. Run it as `make demo`, or in an environment with the extra `train` as
# `bash scripts/demo.sh`. Everything goes to ./demo, which may be deleted at any time.
set -euo pipefail
cd "$(dirname "$0")/.."

configs=(--config configs/cae.yaml --config configs/data/phantom.yaml --config configs/demo.yaml)
run=demo/results/Cae/XR_HAND/latest
checkpoint=$run/weights/lightning/model.ckpt
started=$SECONDS

step() { printf '\n== %s (%d s so far)\n' "$1" $((SECONDS - started)); }

step 'Training on phantom hands without anomalies, then testing: writes scores.csv'
anomalib train "${configs[@]}"

step 'Predicting a folder'
anomalib predict "${configs[@]}" --ckpt_path "$checkpoint" --data demo/phantoms/valid --return_predictions false

step 'Exporting to OpenVINO, with parity measured'
anomalib export "${configs[@]}" --ckpt_path "$checkpoint" \
  --export_type openvino --export_root "$run"

step 'Scoring a picture with the exported bundle, without torch'
predictions=$(find demo/results -name predictions.csv | head -1)
picture=$(tail -n +2 "$predictions" | sort -t, -k6,6gr | head -1 | cut -d, -f1)  # the most anomalous one
anomalib-xray predict --bundle "$run/weights/openvino" "$picture" --out demo/predictions

step 'Showing what was found, on one page'
anomalib-xray report "$run" --out demo/report --title 'The demo: a CAE on phantom hands'

cat <<TEXT

Done in $((SECONDS - started)) s.
  pictures with heat maps  $run/images
  scores of every image    $run/scores.csv
  bundle                   $run/weights/openvino
  scored picture           demo/predictions
Research use only. Not a medical device.
Open in a browser: $PWD/demo/report/report.html
TEXT
