#!/bin/sh
# Three pictures that the package did not draw: a page in a browser, a scanned letter, a poster on a photograph-like ground.
# Needs chromium, groff, ghostscript and imagemagick (Debian's packages of these names).
set -eu
cd "$(dirname "$0")"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1000,620 \
  --screenshot="$scratch/order.png" "file://$PWD/order.html"
convert "$scratch/order.png" -strip order.png
groff -Tps -ms letter.ms > "$scratch/letter.ps"
gs -q -dNOPAUSE -dBATCH -sDEVICE=pnggray -r100 -dTextAlphaBits=4 -sOutputFile="$scratch/letter.png" "$scratch/letter.ps"
convert "$scratch/letter.png" -crop 850x660+0+0 +repage -background white -rotate 0.7 -seed 7 -attenuate 0.25 \
  +noise Gaussian -blur 0x0.5 -level 4%,97% -colorspace Gray -strip -quality 60 letter.jpg
convert -size 1000x700 -seed 11 plasma:navy-darkgreen -blur 0x6 -modulate 90,60 \
  -font DejaVu-Sans-Bold -fill white -pointsize 60 -annotate +90+130 'Night Market' \
  -pointsize 38 -annotate +90+260 'Friday: 18:30' -annotate +90+330 'Place: Old Port' -annotate +90+400 'Entry: 4.50' \
  -font DejaVu-Serif-Italic -pointsize 34 -annotate +90+560 'Music: Elin Dahl' -strip -quality 82 poster.jpg
